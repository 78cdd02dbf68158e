"""Which samples of the training data are drawn: a sampler whose weights may change while it draws."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

AT_ONCE = 256  # numbers drawn by weights that are not all alike


class Draws(Sampler[int]):
    """Draw samples by weights, which hold from a position of the sequence on.

    Weights of which all that are not 0 are alike: those samples in a random order, over and over. Other weights: with
    replacement, in their proportion. The sequence follows from the seed and from what was set where, so that a resumed
    run draws the same.

    Args:
        count: number N of samples.
        length: how many one pass draws; without end if not given.
        seed: of the order.
        rank: number of this process, which takes every `world`-th of the sequence.
        world: number of processes.

    Attributes:
        position: how many of the sequence have been drawn.
        changes: pairs of a position and the weights `(N,)` from there on.

    >>> draws = Draws(4, length=4)
    >>> sorted(draws)
    [0, 1, 2, 3]
    >>> draws.set(torch.tensor([0.0, 1.0, 1.0, 0.0]))
    >>> sorted(draws), draws.position
    ([1, 1, 2, 2], 8)
    """

    def __init__(self, count: int, length: int | None = None, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.count, self.length, self.seed, self.rank, self.world = count, length, seed, rank, world
        self.changes: list[tuple[int, Tensor]] = [(0, torch.ones(count))]
        self.position = 0
        self._going: Iterator[int] | None = None
        self._skipped = 0

    def skip(self, samples: int) -> None:
        """Begin after so many samples of this process: how mmengine's loop goes on after an interruption."""
        self._skipped = samples * self.world

    def set(self, weights: Tensor, at: int | None = None) -> None:
        """Draw by these weights `(N,)` from a position on, the next one if none is given.

        Raises:
            ValueError: they are not `(N,)`, finite and at least 0, or all are 0.
        """
        weights = weights.detach().cpu().double()
        if weights.shape != (self.count,) or not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
            raise ValueError(
                f"weights of samples must be {self.count} finite numbers of at least 0, not all 0; got "
                f"{tuple(weights.shape)}, from {weights.min().item():g} to {weights.max().item():g}"
            )
        at = self.position if at is None else at
        self.changes = [each for each in self.changes if each[0] != at]
        insort(self.changes, (at, weights), key=lambda change: change[0])

    def __iter__(self) -> Iterator[int]:
        if self.length is None:
            return self._from(self._skipped)
        if self._going is None:
            self._going = self._from(self.position)
        return islice(self._going, self.length)

    def __len__(self) -> int:
        return self.count if self.length is None else self.length

    def _from(self, start: int) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        queue: list[int] = []
        position, used = 0, -1.0
        while True:
            place = bisect_right(self.changes, position, key=lambda change: change[0]) - 1
            since, weights = self.changes[place]
            if since != used or not queue:
                queue, used = _some(weights, generator), since
            index = queue.pop()
            position += 1
            if position > start:
                self.position = position
                if (position - 1) % self.world == self.rank:
                    yield index

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to draw the same."""
        return {"position": self.position, "changes": self.changes}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.position, self.changes, self._going = state["position"], list(state["changes"]), None


def _some(weights: Tensor, generator: torch.Generator) -> list[int]:
    """Samples to draw next, last first."""
    drawn = weights.nonzero().flatten()
    if bool((weights[drawn] == weights[drawn[0]]).all()):
        return drawn[torch.randperm(len(drawn), generator=generator)].tolist()
    return torch.multinomial(weights, AT_ONCE, replacement=True, generator=generator).tolist()


def domains_of(data: Any) -> tuple[list[Hashable], Tensor] | None:
    """Names of the domains of a data set, and the number of each sample's; None where it has none.

    Domains are the parts of a `ConcatDataset`, by their numbers from 0, or what the data set itself says of each sample
    in its attribute `domains`. Wrappers with a `dataset` of as many samples are looked through.

    Raises:
        ValueError: `domains` are not as many as the samples.

    >>> from torch.utils.data import ConcatDataset
    >>> domains_of(ConcatDataset([range(2), range(3)]))
    ([0, 1], tensor([0, 0, 1, 1, 1]))
    """
    said = getattr(data, "domains", None)
    if said is not None:
        if len(said) != len(data):
            raise ValueError(f"the data set has {len(data)} samples, but says the domain of {len(said)}")
        return _numbered([each.item() if hasattr(each, "item") else each for each in said])
    parts = getattr(data, "datasets", None)
    if parts is not None and hasattr(data, "cumulative_sizes"):
        return list(range(len(parts))), torch.arange(len(parts)).repeat_interleave(
            torch.tensor([len(part) for part in parts])
        )
    inner = getattr(data, "dataset", None)
    return domains_of(inner) if inner is not None and len(inner) == len(data) else None


def _numbered(said: Sequence[Hashable]) -> tuple[list[Hashable], Tensor]:
    names = list(dict.fromkeys(said))
    place = {name: number for number, name in enumerate(names)}
    return names, torch.tensor([place[each] for each in said])
