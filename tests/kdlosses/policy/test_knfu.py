from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

import kdlosses


def weights(t: torch.Tensor, classes: int, weight: torch.Tensor | None = None, **options: object) -> np.ndarray:
    policy = kdlosses.build(dict(type="knfu", **options)).loss
    return policy.weights(t.unflatten(1, (-1, classes)), weight).numpy()


def test_value_is_that_of_the_formula() -> None:
    s, t = torch.randn(12, 3, dtype=torch.float64), 2 * torch.randn(12, 9, dtype=torch.float64)
    w = torch.randint(0, 3, (12,)).double()
    p = [softmax(part, axis=1) for part in np.split(t.numpy(), 3, axis=1)]
    mass = (w.numpy()[:, None] * p[1]).sum(0)
    said = [(w.numpy()[:, None] * p[1]).T @ each / mass[:, None] for each in p]
    distance = np.array([mass @ rel_entr(said[1], k).sum(1) / mass.sum() for k in said])
    a = softmax(-distance / 0.3)
    np.testing.assert_allclose(weights(t, 3, w, local=1, temperature=0.3), a)
    target = sum(weight * each for weight, each in zip(a, p))
    expected = w.numpy() @ rel_entr(target, softmax(s.numpy(), axis=1)).sum(1) / w.sum().item()
    policy = kdlosses.build(dict(type="knfu", local=1, temperature=0.3))
    assert policy(s, t, weight=w).item() == pytest.approx(expected)


def test_identical_peers_leave_the_target_unchanged() -> None:
    s, t = torch.randn(8, 4), torch.randn(8, 4)
    torch.testing.assert_close(kdlosses.build("knfu")(s, torch.cat([t, t, t], 1)), kdlosses.kl(s, t))


def test_a_cold_temperature_leaves_the_local_model() -> None:
    s, t = torch.randn(8, 4), torch.randn(8, 12)
    cold = kdlosses.build(dict(type="knfu", local=2, temperature=1e-4))
    torch.testing.assert_close(cold(s, t), kdlosses.kl(s, t[:, 8:]))


def test_a_peer_whose_classes_are_others_gets_next_to_nothing() -> None:
    t = 6 * torch.nn.functional.one_hot(torch.randint(4, (50,)), 4).float()
    alike, other = t + 0.5 * torch.randn(50, 4), t[:, [1, 2, 3, 0]]
    a = weights(torch.cat([t, alike, other], 1), 4)
    assert a.sum() == pytest.approx(1)
    assert a[2] < 1e-4
    assert a[1] > 0.2


def test_only_the_nearest_are_asked() -> None:
    t = torch.randn(30, 3)
    peers = torch.cat([t, t + 0.1, t + torch.randn(30, 3), -t], 1)
    assert (weights(peers, 3, nearest=1) > 0).tolist() == [True, True, False, False]
    assert (weights(peers, 3, nearest=0) > 0).tolist() == [True, False, False, False]
    assert (weights(peers, 3, temperature=10.0) > 0).all()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="the temperature must be positive"):
        kdlosses.build(dict(type="knfu", temperature=0.0))
    with pytest.raises(ValueError, match="local must be the index of a peer, 0 to 1, got 2"):
        kdlosses.build(dict(type="knfu", local=2))(torch.zeros(2, 3), torch.zeros(2, 6))
