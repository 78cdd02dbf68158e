"""Which pairs are learnt from, which choose the epoch, and which are reported."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphkd.recommendation.interactions import Held, Interactions
from graphkd.spec import real, whole

LEAST = 10
"""Items that a user has at least, of whom some are held out."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The three parts of a data set.

    Attributes:
        known: all pairs that are not of the test, with the ids of users and items.
        train: of these the pairs to learn from, `(2, E)`.
        val: of these the pairs that choose the epoch.
        test: what is reported.

    Raises:
        ValueError: a part has no pair.
    """

    known: Interactions
    train: Tensor
    val: Held
    test: Held

    def __post_init__(self) -> None:
        for name, pairs in (("train", self.train), ("val", self.val.pairs), ("test", self.test.pairs)):
            if not pairs.numel():
                raise ValueError(f"the part {name!r} has no pair of a user and an item")

    @property
    def users(self) -> int:
        return len(self.known.users)

    @property
    def items(self) -> int:
        return len(self.known.items)


def divided(
    known: Interactions,
    test: Held | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float | None = None,
    least: int = LEAST,
) -> Parts:
    """Hold out some items of each user.

    An item may be left without a pair to learn from: it is then recommended by what its first embedding is worth.

    Args:
        known: all pairs but those of `test`.
        test: pairs to be found; if not given, they are drawn.
        seed: of what is drawn.
        val_share: share of each user's other items that chooses the epoch, rounded down.
        test_share: share of each user's items that is to be found, 0.2 if not given, rounded down as well.
        least: a user with fewer items keeps all of them.

    Raises:
        ValueError: a share is no share, or leaves nothing to choose the epoch by, or nothing to report; or both `test`
            and `test_share` are given.

    >>> from graphkd.recommendation.interactions import Rows
    >>> known = Interactions.of(Rows(["ann"] * 10 + ["bob"], [*range(10), 0]))
    >>> parts = divided(known, val_share=0.2, least=5)
    >>> parts.train.shape[1], parts.val.pairs.shape[1], parts.test.pairs.tolist()[0]
    (8, 1, [0, 0])
    """
    if test is not None and test_share is not None:
        raise ValueError("test_share is drawn where there is no test, and there is one: give one of the two")
    val_share = real("val_share", val_share, 0, 1)
    test_share = real("test_share", 0.2 if test_share is None else test_share, 0, 1)
    least, generator = whole("least", least, 1), torch.Generator().manual_seed(whole("seed", seed))
    if test is not None and not test.pairs.numel():
        raise ValueError("no pair of the test has both a user and an item of the training: nothing can be found")
    rest, none = known.pairs, torch.zeros(len(known.users), dtype=torch.long)
    if test is None:
        drawn, rest = _drawn(rest, len(none), test_share, least, generator)
        test = Held(drawn, none)
    drawn, rest = _drawn(rest, len(none), val_share, least, generator)
    for part, share, pairs in (("val", val_share, drawn), ("test", test_share, test.pairs)):
        if not pairs.numel():
            raise ValueError(
                f"no pair is left for the part {part!r}: of users with {least} items or more a share of {share} is "
                f"held out; raise {part}_share, or lower least"
            )
    return Parts(known, rest, Held(drawn, none), test)


def _drawn(pairs: Tensor, users: int, share: float, least: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random share of each user's pairs, and the others; both in the order in which they were."""
    order = torch.randperm(pairs.shape[1], generator=generator)
    order = order[pairs[0, order].argsort(stable=True)]  # user by user, at random within
    count = torch.bincount(pairs[0], minlength=users)
    rank = torch.arange(len(order)) - (count.cumsum(0) - count)[pairs[0, order]]
    taken = (count * share + 1e-6).long().where(count >= least, 0)
    out = torch.zeros(len(order), dtype=torch.bool)
    out[order] = rank < taken[pairs[0, order]]
    return pairs[:, out], pairs[:, ~out]
