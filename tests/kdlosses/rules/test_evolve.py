from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from kdlosses.rules.evolve import evolve

SPACE = {f"stage {i}": range(6) for i in range(6)}
WANTED = dict(zip(SPACE, [3, 0, 5, 2, 4, 1]))


def closeness(one: dict[str, Any]) -> float:
    """Like an architecture whose stages count each for itself, and a little together."""
    away = [abs(one[name] - WANTED[name]) for name in WANTED]
    return -sum(away) - 0.1 * max(away)


def test_it_finds_the_best_of_many_where_as_many_random_draws_do_not() -> None:
    found = evolve(closeness, SPACE, population=20, generations=15, seed=1)
    assert found.best == WANTED
    assert len(found.scored) <= 300 < 6**6 / 100
    assert len({tuple(one.values()) for one, _ in found.scored}) == len(found.scored)
    drawn = np.random.default_rng(0).integers(0, 6, (20, 300, 6))
    random = [max(closeness(dict(zip(SPACE, map(int, one)))) for one in each) for each in drawn]
    assert max(random) < found.score
    assert evolve(closeness, SPACE, population=20, generations=1, seed=1).score < found.score


def test_nothing_beyond_the_budget_is_scored() -> None:
    asked = []

    def score(one: dict[str, Any]) -> float:
        asked.append(sum(one.values()))
        return closeness(one)

    small = {name: SPACE[name] for name in list(SPACE)[:3]}
    found = evolve(
        lambda one: score({**WANTED, **one}),
        small,
        allowed=lambda one: sum(one.values()) <= 5,
        population=8,
        generations=10,
    )
    rest = sum(list(WANTED.values())[3:])
    assert max(asked) <= 5 + rest
    within = [one for one in itertools.product(range(6), repeat=3) if sum(one) <= 5]
    assert found.score == max(closeness({**WANTED, **dict(zip(small, one))}) for one in within)


def test_the_seed_decides_and_a_small_space_is_read_to_its_end() -> None:
    one, same, other = (evolve(closeness, SPACE, generations=2, seed=seed).scored for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert len(evolve(sum_of, dict(a=[1, 2], b=[0, 5])).scored) == 4


def test_candidates_that_are_the_same_are_scored_once() -> None:
    space = dict(depth=[0, 1, 2], first=[1, 2, 3], second=[4, 5])
    found = evolve(sum_of, space, same=lambda one: tuple(one.values())[1 : 1 + one["depth"]], generations=4)
    depths = [one["depth"] for one, _ in found.scored]
    assert [depths.count(depth) for depth in (0, 1, 2)] == [1, 3, 6]


def sum_of(one: dict[str, Any]) -> float:
    return float(sum(one.values()))


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (dict(a=[1]), {}, "two or more for one of them"),
        (dict(a=[1, 2], b=[]), {}, "a space has choices for each name"),
        (dict(a=[1, 2], b=[3, 4, 3]), {}, "'b' has the choice 3 twice"),
        (dict(a=[1, 2]), dict(mutation=0.0), "mutation is above 0"),
        (dict(a=[1, 2]), dict(population=0), "are at least 1"),
        (dict(a=[1, 2]), dict(allowed=lambda one: False), "is allowed: widen the budget"),
        (dict(a=[1.0, float("nan")]), {}, "the score of {'a': nan} is nan"),
    ],
)
def test_what_cannot_be_searched_is_named(space: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evolve(sum_of, space, **options)
