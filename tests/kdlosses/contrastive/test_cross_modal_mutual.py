from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from kdlosses import CrossModalMutual
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "cross_modal_mutual",
    options=dict(size=32, k=7),
    no_fixed_point="the teacher is the colder one",
    no_copies="a copy would be the nearest neighbour, and neighbours are counted",
    over_pairs=True,
)


def reference(s: np.ndarray, t: np.ndarray, queue_s: np.ndarray, queue_t: np.ndarray, k: int) -> float:
    """Point by point, neighbours found by scikit-learn in the teacher's space."""
    s, t = normalize(s), normalize(t)
    keys_s, keys_t = np.concatenate([queue_s, s]), np.concatenate([queue_t, t])
    found = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(keys_t).kneighbors(t, return_distance=False)
    each = []
    for i, near in enumerate(found):
        near = near[near != len(queue_t) + i][:k]
        p, q = softmax(keys_t[near] @ t[i] / 0.05), softmax(keys_s[near] @ s[i] / 0.1)
        each.append(rel_entr(p, q).sum())
    return float(np.mean(each))


def test_formula_over_a_run_of_batches() -> None:
    rng = np.random.default_rng(0)
    loss = CrossModalMutual(student_channels=3, teacher_channels=4, size=10, k=4).double()
    queue_s, queue_t = np.zeros((0, 3)), np.zeros((0, 4))
    for _ in range(4):
        s, t = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
        value = loss(*map(torch.from_numpy, (s, t))).item()
        np.testing.assert_allclose(value, reference(s, t, queue_s, queue_t, 4), rtol=1e-10)
        queue_s, queue_t = (np.concatenate([q, normalize(x)])[-10:] for q, x in ((queue_s, s), (queue_t, t)))


def test_a_rotated_space_costs_nothing_at_equal_temperatures() -> None:
    t = torch.randn(12, 4, dtype=torch.float64)
    turned = (t @ torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]).requires_grad_()
    value = CrossModalMutual(4, 4, size=8, k=5, student_tau=0.05).double()(turned, t)
    value.backward()
    assert abs(value.item()) < 1e-10
    assert turned.grad.abs().max() < 1e-9


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t = torch.randn(20, 3, dtype=torch.float64, requires_grad=True), torch.randn(20, 4, dtype=torch.float64)
    whole = CrossModalMutual(3, 4, size=8, k=5).double()(s, t)
    (gradient,) = torch.autograd.grad(whole, s)
    monkeypatch.setattr(blocks, "BLOCK", 60)
    parts = CrossModalMutual(3, 4, size=8, k=5).double()(s, t)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, s)[0], gradient)


def test_a_point_alone_has_no_neighbours_and_costs_nothing() -> None:
    s = torch.randn(1, 3, requires_grad=True)
    value = CrossModalMutual(3, 4, size=2, k=5)(s, torch.randn(1, 4))
    value.backward()
    assert value == 0
    assert s.grad.abs().max() < 1e-9


def test_masked_positions_are_no_neighbours() -> None:
    loss, weight = CrossModalMutual(3, 4, size=8, k=3), torch.tensor([1, 0, 0, 1, 1, 1])
    s, t = torch.randn(6, 3), torch.randn(6, 4)
    value = loss(s, t, weight=weight)
    torch.testing.assert_close(value, CrossModalMutual(3, 4, size=8, k=3)(s[weight > 0], t[weight > 0]))
    assert loss.teacher_queue.weight.sum() == loss.student_queue.weight.sum() == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(k=0), "k must be at least 1"), (dict(teacher_tau=0.0), "must be positive"), (dict(view="sample"), "view")],
)
def test_options_that_make_no_sense_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossModalMutual(3, 4, **options)  # type: ignore[arg-type]
