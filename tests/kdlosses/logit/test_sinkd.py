from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import softmax
from torch import Tensor

from kdlosses import sinkd

CONTRACT = LossContract(
    "sinkd", no_fixed_point="entropic smoothing compares each student with all teachers", over_pairs=True
)


def naive(student: Tensor, teacher: Tensor) -> Tensor:
    """The definition, with the whole plan normalised again and again."""
    cost = torch.cdist((student / 2).softmax(1), (teacher / 2).softmax(1), p=1)
    plan = (-cost / 0.1).exp()
    for _ in range(20):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return (plan * cost).sum() / len(plan)


@pytest.mark.parametrize(("tau", "eps", "iterations"), [(2.0, 0.1, 20), (1.0, 0.5, 3)])
def test_formula(tau: float, eps: float, iterations: int) -> None:
    rng = np.random.default_rng(0)
    s, t = 3 * rng.normal(size=(13, 5)), 3 * rng.normal(size=(13, 5))
    cost = cdist(softmax(s / tau, axis=1), softmax(t / tau, axis=1), "cityblock")
    plan = np.exp(-cost / eps)
    for _ in range(iterations):
        plan /= plan.sum(1, keepdims=True)
        plan /= plan.sum(0, keepdims=True)
    value = sinkd(*map(torch.from_numpy, (s, t)), tau=tau, eps=eps, iterations=iterations)
    np.testing.assert_allclose(value.item(), (plan * cost).sum() / 13, rtol=1e-9)


def test_gradient_goes_through_the_scalings() -> None:
    s, t = torch.randn(9, 4, dtype=torch.float64, requires_grad=True), torch.randn(9, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(sinkd(s, t), s)
    (expected,) = torch.autograd.grad(naive(s, t), s)
    torch.testing.assert_close(gradient, expected)


def test_order_of_the_teachers_rows_cannot_matter() -> None:
    s, t = torch.randn(9, 4), torch.randn(9, 4)
    torch.testing.assert_close(sinkd(s, t.flip(0)), sinkd(s, t))


def test_smoothing_keeps_it_above_zero_at_equality() -> None:
    t = torch.randn(9, 4)
    assert sinkd(t, t) > 0.01


def test_without_smoothing_it_is_the_best_assignment() -> None:
    s, t = 3 * torch.randn(8, 4, dtype=torch.float64), 3 * torch.randn(8, 4, dtype=torch.float64)
    cost = cdist((s / 2).softmax(1).numpy(), (t / 2).softmax(1).numpy(), "cityblock")
    best = cost[linear_sum_assignment(cost)].mean()
    np.testing.assert_allclose(sinkd(s, t, eps=0.004, iterations=3000), best, rtol=1e-2)


def test_smoothing_too_small_for_the_number_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"eps 0\.01 is too small for torch\.float32"):
        sinkd(torch.zeros(3, 2), torch.zeros(3, 2), eps=0.01)


def test_memory_is_a_quarter_of_the_naive_at_most() -> None:
    def saved(loss: object, n: int = 200) -> int:
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            value = loss(torch.randn(n, 8, requires_grad=True), torch.randn(n, 8))  # type: ignore[operator]
        assert value.requires_grad
        return sum(kept.values())

    assert saved(sinkd) * 4 < saved(naive)


def test_a_draw_is_a_sample_of_positions_of_both_sides() -> None:
    """Of two maps of 64 by 64 it is in reach; its mean over draws is a little above the distance of all."""
    s, t = 3 * torch.randn(2, 5, 6, 6), 3 * torch.randn(2, 5, 6, 6)
    assert sinkd(s, t, draw=72) == sinkd(s, t)
    drawn = torch.stack([sinkd(s, t, draw=36) for _ in range(40)])
    assert drawn.std() > 0
    assert sinkd(s, t) < drawn.mean() < 1.3 * sinkd(s, t)  # fewer partners to choose from
    weight = torch.zeros(2, 6, 6)
    weight[0, 0] = 1  # a draw of more than there are
    torch.testing.assert_close(sinkd(s, t, draw=20, weight=weight), sinkd(s, t, weight=weight))
    large = torch.randn(2, 5, 64, 64, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        value = sinkd(large, torch.randn(2, 5, 64, 64), draw=512)
    value.backward()
    assert max(kept) <= 512 * 512
    assert (large.grad.abs().sum(1) > 0).sum() == 512
