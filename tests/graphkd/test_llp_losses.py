"""LLP's losses against their formulas in plain NumPy float64, and what must and must not change them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor
from torch.nn import functional as F

from graphkd.losses import llp_dist, llp_rank


@pytest.fixture
def scores() -> tuple[Tensor, Tensor]:
    """Of 20 anchors against 6 partners each."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(20, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


def rank_by_hand(student: np.ndarray, teacher: np.ndarray, delta: float) -> list[float]:
    """With the sign r of a pair as the paper writes it, over all pairs one by one."""
    found = []
    for s, t in zip(student, teacher):
        total, pairs = 0.0, list(itertools.combinations(range(len(s)), 2))
        for a, b in pairs:
            r = 0 if abs(t[a] - t[b]) < delta else np.sign(t[a] - t[b])
            total += max(0.0, -r * (s[a] - s[b]) + delta) if r else 0.0
        found.append(total / len(pairs))
    return found


@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_rank_formula(scores: tuple[Tensor, Tensor], delta: float) -> None:
    student, teacher = scores
    by_hand = rank_by_hand(student.detach().numpy(), teacher.numpy(), delta)
    assert llp_rank(student, teacher, delta).item() == pytest.approx(np.mean(by_hand), rel=1e-12)
    weight = torch.arange(20.0, dtype=torch.float64) % 3
    weighted = llp_rank(student, teacher, delta, weight=weight).item()
    assert weighted == pytest.approx(np.average(by_hand, weights=weight.numpy()), rel=1e-12)


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_dist_formula(scores: tuple[Tensor, Tensor], tau: float) -> None:
    student, teacher = scores
    by_hand = tau**2 * entropy(softmax(teacher.numpy() / tau, 1), softmax(student.detach().numpy() / tau, 1), axis=1)
    assert llp_dist(student, teacher, tau).item() == pytest.approx(by_hand.mean(), rel=1e-12)


def test_pairs_that_say_nothing_only_add_a_constant_in_the_margin_loss_of_the_library(
    scores: tuple[Tensor, Tensor],
) -> None:
    """PyTorch's margin loss over all pairs, as released: the same gradient, and the margin for each silent pair."""
    student, teacher = scores
    a, b = torch.triu_indices(6, 6, 1)
    gap = teacher[:, a] - teacher[:, b]
    sign = gap.sign() * (gap.abs() > 0.3)
    released = F.margin_ranking_loss(student[:, a], student[:, b], sign, margin=0.3)
    ours = llp_rank(student, teacher, 0.3)
    assert 0 < (sign == 0).sum() < sign.numel()
    assert (released - ours).item() == pytest.approx(0.3 * (sign == 0).double().mean().item())
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (released, ours)))


def test_ranks_kept_apart_cost_nothing_and_a_swap_does(scores: tuple[Tensor, Tensor]) -> None:
    _, teacher = scores
    places = teacher.argsort(1).argsort(1).double()
    assert llp_rank(0.25 * places, teacher, delta=0.25) == 0  # the same order, in steps of the margin
    assert llp_rank(9 * places, teacher, delta=0.25) == 0
    assert llp_rank(0.24 * places, teacher, delta=0.25) > 0
    assert llp_rank(-places, teacher, delta=0.25) > 1


def test_nothing_is_said_of_pairs_closer_than_the_margin(scores: tuple[Tensor, Tensor]) -> None:
    student, teacher = scores
    close = 0.1 * teacher / (teacher.max() - teacher.min())
    value = llp_rank(student, close, delta=0.11)
    value.backward()
    assert value == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("loss", [llp_dist, llp_rank])
def test_a_number_added_to_an_anchor_changes_nothing(loss: object, scores: tuple[Tensor, Tensor]) -> None:
    student, teacher = scores
    shift = torch.randn(20, 1, dtype=torch.float64)
    assert callable(loss)
    torch.testing.assert_close(loss(student, teacher + shift), loss(student, teacher))
    torch.testing.assert_close(loss(student + shift, teacher), loss(student, teacher))
    order = torch.randperm(6)  # nor in which order its partners are listed
    torch.testing.assert_close(loss(student[:, order], teacher[:, order]), loss(student, teacher))


def test_one_partner_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match=r"needs two, got \(4, 1\)"):
        llp_rank(torch.zeros(4, 1), torch.zeros(4, 1))
