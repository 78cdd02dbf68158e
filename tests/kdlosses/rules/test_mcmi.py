from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from scipy.stats import entropy

from kdlosses.rules import class_means, conditional_information, mcmi

Z = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(4, (40,), generator=torch.Generator().manual_seed(1))


def test_it_is_the_entropy_of_the_mean_less_the_mean_of_the_entropies() -> None:
    p, y = scipy.special.softmax(Z.numpy(), axis=1), Y.numpy()
    parts = [(y == c).mean() * (entropy(p[y == c].mean(0)) - entropy(p[y == c], axis=1).mean()) for c in range(4)]
    assert conditional_information(Z, Y).item() == pytest.approx(np.sum(parts), rel=1e-12)
    np.testing.assert_allclose(class_means(Z, Y), [p[y == c].mean(0) for c in range(4)])


def test_lam_zero_is_cross_entropy_and_more_of_it_rewards_the_spread() -> None:
    torch.testing.assert_close(mcmi(Z, Y, lam=0.0), F.cross_entropy(Z, Y))
    expected = F.cross_entropy(Z, Y) - 0.25 * conditional_information(Z, Y)
    torch.testing.assert_close(mcmi(Z, Y, lam=0.25), expected)


def test_one_prediction_for_a_class_leaves_nothing_to_tell_apart() -> None:
    alike = torch.randn(4, 4, dtype=torch.float64)[Y]
    assert conditional_information(alike, Y).item() == pytest.approx(0, abs=1e-12)
    assert conditional_information(Z, Y) > 0.1


def test_means_that_move_along_have_the_same_gradient() -> None:
    """What the constant means are said to cost: nothing."""
    z = Z.clone().requires_grad_()
    p = z.softmax(1)
    means = torch.stack([p[c == Y].mean(0) for c in range(4)])
    moving = (p * (p.log() - means[Y].log())).sum(1).mean()
    (expected,) = torch.autograd.grad(moving, z)
    (found,) = torch.autograd.grad(conditional_information(z, Y), z)
    torch.testing.assert_close(found, expected)


def test_a_few_steps_raise_it() -> None:
    z = Z.clone().requires_grad_()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(mcmi(z, Y, lam=2.0), z)
        z = (z - 5 * gradient).detach().requires_grad_()
    assert conditional_information(z, Y) > conditional_information(Z, Y) + 0.05


def test_unknown_and_masked_positions_count_for_nothing_on_maps_too() -> None:
    maps, labels = Z.view(2, 5, 4, 4).movedim(-1, 1), Y.view(2, 5, 4)
    torch.testing.assert_close(mcmi(maps, labels), mcmi(Z, Y))
    keep = torch.arange(40) % 3 > 0
    bad = Z.masked_fill(~keep[:, None], torch.nan)
    for left_out in (Y.where(keep, -1), Y.where(keep, 255)):
        torch.testing.assert_close(mcmi(Z, left_out), mcmi(Z[keep], Y[keep]))
    torch.testing.assert_close(class_means(bad, Y, weight=keep), class_means(Z[keep], Y[keep]))


def test_an_absent_class_and_an_empty_selection_are_finite() -> None:
    assert class_means(Z, torch.zeros_like(Y))[2].tolist() == [0.25] * 4
    assert mcmi(Z, torch.full_like(Y, -1)) == 0


def test_half_precision_stays_finite() -> None:
    """A class that no member is predicted as has a mean of 0 there."""
    z, y = torch.tensor([[50.0, -50.0], [-50.0, 50.0], [0.0, 0.0]]), torch.tensor([0, 1, 1])
    expected = conditional_information(z, y)
    torch.testing.assert_close(conditional_information(z.half(), y).float(), expected, atol=2e-3, rtol=2e-3)
