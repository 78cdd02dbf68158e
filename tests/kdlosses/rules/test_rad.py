from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from kdlosses.rules import rad


def gains_of(n: int, seed: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.02


def worst(p: np.ndarray, g: np.ndarray, k: int) -> float:
    """What is left after the adversary took the k points that hurt most."""
    return float(np.sort(p * g)[: len(g) - k].sum())


@pytest.mark.parametrize("k", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_maximin_strategy(k: int, seed: int) -> None:
    """The game as a linear program: the largest v with v <= the gain under every one of the adversary's choices."""
    g = gains_of(7, seed)
    p = rad(g, k).numpy()
    g = g.numpy()
    left = [np.setdiff1d(range(7), taken) for taken in itertools.combinations(range(7), k)]
    under = np.array([[*(-g * np.isin(range(7), rest)), 1.0] for rest in left])
    solved = linprog([*np.zeros(7), -1.0], under, np.zeros(len(left)), [[*np.ones(7), 0.0]], [1.0])
    assert solved.success
    assert worst(p, g, k) == pytest.approx(-solved.fun, abs=1e-9)


def test_no_random_strategy_is_better() -> None:
    g, generator = gains_of(40, 9), np.random.default_rng(0)
    p = rad(g, 5).numpy()
    others = generator.dirichlet(np.full(40, 0.7), size=3000)
    near = (p + generator.dirichlet(np.full(40, 0.7), size=3000) / 50) / 1.02
    best = max(worst(other, g.numpy(), 5) for other in np.concatenate([others, near]))
    assert best < worst(p, g.numpy(), 5)


def test_mass_lies_on_the_largest_gains_and_most_on_the_least_of_them() -> None:
    g = gains_of(30, 3).sort(descending=True).values
    p = rad(g, 4)
    support = int((p > 0).sum())
    assert p.sum().item() == pytest.approx(1)
    assert (p[:support] > 0).all()
    assert 4 < support < 30
    assert (p[: support - 1] <= p[1:support]).all()
    torch.testing.assert_close((p * g)[:support], (p * g)[:1].expand(support))  # no answer is worth more than another


def test_one_sure_teacher_one_question() -> None:
    assert rad(torch.tensor([0.2, 0.9, 0.5]), 0).tolist() == [0, 1, 0]


def test_equal_gains_are_asked_alike() -> None:
    torch.testing.assert_close(rad(torch.full((5,), 0.3), 1), torch.full((5,), 0.2))


def test_the_more_answers_are_wrong_the_less_it_is_worth() -> None:
    g = gains_of(12, 1)
    value = [worst(rad(g, k).numpy(), g.numpy(), k) for k in range(12)]
    assert (np.diff(value) < 0).all()


def test_order_and_scale_cannot_matter() -> None:
    g = gains_of(20, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rad(g[order], 3.5), rad(g, 3.5)[order])
    torch.testing.assert_close(rad(100 * g, 3.5), rad(g, 3.5))


def test_worthless_points_are_not_asked_about() -> None:
    assert rad(torch.tensor([0.5, 0.0, 0.5, 0.0]), 1).tolist() == [0.5, 0, 0.5, 0]
    assert rad(torch.tensor([0.5, 0.0, 0.0, 0.0]), 1).tolist() == [0.25] * 4  # the adversary takes it all


@pytest.mark.parametrize(
    ("gains", "k", "message"),
    [([1.0, -1.0], 0, "at least 0"), ([1.0, float("nan")], 0, "finite"), ([], 0, "not empty"), ([1.0, 1.0], 2, "k is")],
)
def test_what_makes_no_game_is_named(gains: list[float], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rad(torch.tensor(gains), k)
