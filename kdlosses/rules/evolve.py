from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

_DRAWS = 200
"""How often a candidate is drawn anew that is known or not allowed, before there is taken to be none."""


class Evolved(NamedTuple):
    """What a search found.

    Attributes:
        best: the candidate of the highest score, a choice by name.
        score: its score.
        scored: every candidate that was scored, with its score, in that order.
    """

    best: dict[str, Any]
    score: float
    scored: list[tuple[dict[str, Any], float]]


def evolve(
    score: Callable[[dict[str, Any]], float],
    space: Mapping[str, Sequence[Any]],
    *,
    allowed: Callable[[dict[str, Any]], bool] | None = None,
    same: Callable[[dict[str, Any]], Hashable] | None = None,
    population: int = 16,
    generations: int = 8,
    parents: int = 4,
    mutation: float = 0.3,
    seed: int = 0,
) -> Evolved:
    """Search the candidate of the highest score by evolution.

    The first generation is drawn at random. In each later one the best so far are the parents: by turns a child is a
    parent with some choices drawn anew, at least one, or has each choice of one of two parents. No candidate is scored
    twice, and none that is not allowed. The search ends early where no new candidate is found.

    Args:
        score: of a candidate `{name: choice}`; the higher, the better.
        space: by name the choices, two or more of at least one name.
        allowed: whether a candidate may be chosen, such as one of few enough parameters; asked before it is scored.
        same: what candidates have in common that are one and the same, of which one is scored: such as the widths of
            the layers that a depth leaves.
        population: candidates of a generation.
        generations: how many, the first among them.
        parents: how many of the best have children.
        mutation: chance of each choice to be drawn anew.
        seed: of the draws.

    Raises:
        ValueError: an empty space, a choice that is there twice, a number out of range, no allowed candidate among many
            draws, or a score that is not a number.

    Paper: the search of Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training",
    CVPR 2023, is such a one; the numbers here are ours.

    >>> found = evolve(lambda one: one["depth"] - abs(one["width"] - 4), dict(depth=[1, 2, 3], width=[2, 4, 8]))
    >>> found.best, found.score
    ({'depth': 3, 'width': 4}, 3)
    """
    if not any(len(choices) > 1 for choices in space.values()) or not all(map(len, space.values())):
        raise ValueError(f"evolve: a space has choices for each name, two or more for one of them, got {dict(space)}")
    for name, choices in space.items():
        twice = next((each for place, each in enumerate(choices) if each in choices[:place]), None)
        if twice is not None:
            raise ValueError(f"evolve: {name!r} has the choice {twice!r} twice: leave one out")
    if min(population, generations, parents) < 1 or not 0 < mutation <= 1:
        raise ValueError(
            "evolve: population, generations and parents are at least 1, mutation is above 0 and at most 1, got "
            f"{population}, {generations}, {parents} and {mutation}"
        )
    draw = Random(seed)
    sizes = [len(choices) for choices in space.values()]
    known: dict[tuple[int, ...], float] = {}
    refused: set[tuple[int, ...]] = set()
    taken: set[Hashable] = set()
    elite: list[tuple[int, ...]] = []

    def candidate(genes: tuple[int, ...]) -> dict[str, Any]:
        return {name: choices[gene] for (name, choices), gene in zip(space.items(), genes)}

    def new(make: Callable[[], tuple[int, ...]]) -> tuple[int, ...] | None:
        for _ in range(_DRAWS):
            genes = make()
            if genes in known or genes in refused:
                continue
            one = candidate(genes)
            name = genes if same is None else same(one)
            if name not in taken and (allowed is None or allowed(one)):
                taken.add(name)
                return genes
            refused.add(genes)
        return None

    def drawn() -> tuple[int, ...]:
        return tuple(draw.randrange(size) for size in sizes)

    def mutated() -> tuple[int, ...]:
        parent = draw.choice(elite)
        sure = draw.randrange(len(sizes))
        return tuple(
            draw.randrange(size) if place == sure or draw.random() < mutation else gene
            for place, (gene, size) in enumerate(zip(parent, sizes))
        )

    def crossed() -> tuple[int, ...]:
        one, other = draw.choice(elite), draw.choice(elite)
        return tuple(draw.choice(pair) for pair in zip(one, other))

    for generation in range(generations):
        for turn in range(population):
            ways = [drawn] if generation == 0 else [mutated, crossed] if turn % 2 == 0 else [crossed, mutated]
            genes = next((found for found in map(new, ways) if found is not None), None)
            if genes is None:
                break
            value = score(candidate(genes))
            if not math.isfinite(value):
                raise ValueError(f"evolve: the score of {candidate(genes)} is {value}, which is not finite")
            known[genes] = value
            elite = sorted(known, key=lambda genes: -known[genes])[:parents]
        if not known:
            raise ValueError(f"evolve: none of {_DRAWS} candidates drawn from the space is allowed: widen the budget")
    return Evolved(candidate(elite[0]), known[elite[0]], [(candidate(genes), value) for genes, value in known.items()])
