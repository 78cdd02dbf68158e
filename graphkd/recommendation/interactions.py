"""Who had what: pairs of a user and an item, under the ids that were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphkd.spec import plain

Ids = list[Any]
"""All whole numbers, or all strings."""


class Rows(NamedTuple):
    """Pairs as they were given.

    Attributes:
        users: an id for each pair, in a list, an array or a tensor.
        items: likewise.
        where: what messages call pair number k.
    """

    users: Any
    items: Any
    where: Callable[[int], str] = "pair {}".format

    def plain(self) -> Rows:
        """The same, with the numbers of arrays and tensors as Python's."""
        users, items = (plain(each.tolist() if hasattr(each, "tolist") else list(each)) for each in self[:2])
        return Rows(users, items, self.where)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Pairs of users and items; every user has an item, and somebody has every item.

    Attributes:
        pairs: `(2, E)`, places in `users` above places in `items`, each pair once.
        users: their ids, in the order in which they were first seen.
        items: likewise.

    Raises:
        ValueError: there is no pair, one stands twice, a user has no item, or nobody has an item; names the id.
        TypeError: an id is neither a string nor a whole number, or ids are of both kinds.

    >>> Interactions.of(Rows(["ann", "bob", "ann"], [7, 7, 9])).pairs.tolist()
    [[0, 1, 0], [0, 0, 1]]
    """

    pairs: Tensor
    users: Ids
    items: Ids

    def __post_init__(self) -> None:
        if self.pairs.ndim != 2 or len(self.pairs) != 2 or self.pairs.dtype is not torch.long:
            raise ValueError(f"pairs are whole numbers (2, E), got {self.pairs.dtype} {tuple(self.pairs.shape)}")
        if not self.pairs.numel():
            raise ValueError("there is no pair of a user and an item")
        for side, ids, what in zip(self.pairs, (self.users, self.items), ("user", "item")):
            if not isinstance(ids, list):
                raise TypeError(f"the ids of {what}s are a list, got {type(ids).__name__}; see Interactions.of")
            if len(_numbered(ids, what, "place {}".format)) < len(ids):
                raise ValueError(f"the {what} {next(each for each in ids if ids.count(each) > 1)!r} is listed twice")
            if not 0 <= int(side.min()) <= int(side.max()) < len(ids):
                raise ValueError(f"pairs name {what}s {int(side.min())} to {int(side.max())} of {len(ids)}")
            lone = (torch.bincount(side, minlength=len(ids)) == 0).nonzero().flatten()
            if len(lone):
                named, more = f"the {what} {ids[int(lone[0])]!r}", len(lone) - 1
                told = f"{named} has no item" if what == "user" else f"nobody has {named}"
                raise ValueError(f"{told}{f', and so are {more} more' if more else ''}: leave out whatever has no pair")
        codes = self.codes(self.pairs).sort().values
        twice = codes[1:][codes[1:] == codes[:-1]]
        if len(twice):
            user, item = divmod(int(twice[0]), len(self.items))
            raise ValueError(f"user {self.users[user]!r} has item {self.items[item]!r} twice: give each pair once")

    @classmethod
    def of(cls, rows: Rows, duplicates: str = "raise") -> Interactions:
        """Number the ids of pairs.

        Args:
            rows: the pairs.
            duplicates: what to do about a pair that stands twice, `raise` or `merge`, which counts it once.

        Raises:
            ValueError: a user has no item, or a pair stands twice; says where.
            TypeError: an id is neither a string nor a whole number, or ids are of both kinds.
        """
        if duplicates not in ("raise", "merge"):
            raise ValueError(f"duplicates is 'raise' or 'merge', not {duplicates!r}")
        if len(rows.users) != len(rows.items):
            raise ValueError(f"there are {len(rows.users)} users and {len(rows.items)} items: one of each for a pair")
        rows = rows.plain()
        users, items = (_numbered(*each, rows.where) for each in ((rows.users, "user"), (rows.items, "item")))
        first: dict[tuple[int, int], int] = {}
        for place, (user, item) in enumerate(zip(rows.users, rows.items)):
            pair = users[user], items[item]
            before = first.setdefault(pair, place)
            if before != place and duplicates == "raise":
                raise ValueError(
                    f"{rows.where(place)}: user {user!r} has item {item!r} already, see {rows.where(before)}; give "
                    "each pair once, or pass duplicates='merge'"
                )
        return cls(torch.tensor(list(first), dtype=torch.long).reshape(-1, 2).T.contiguous(), [*users], [*items])

    def codes(self, pairs: Tensor) -> Tensor:
        """One number for each pair `(2, *)`."""
        return pairs[0] * len(self.items) + pairs[1]


@dataclass(frozen=True, eq=False)
class Held:
    """Pairs that are held out, to be found.

    Attributes:
        pairs: `(2, P)`, as in `Interactions`.
        lost: `(U,)`, how many more items of each user nobody has in the training: none of them can be found.
        strangers: how many users are here alone, for whom nothing can be found.
    """

    pairs: Tensor
    lost: Tensor
    strangers: int = 0


def held(rows: Rows, known: Interactions, unknown: str = "raise", duplicates: str = "raise") -> Held:
    """Pairs of a test, by the places of their users and items in the training.

    Args:
        rows: the pairs.
        known: those of the training.
        unknown: what to do about a user or an item that the training does not have, `raise`, or `miss`: it counts as
            not found.
        duplicates: see `Interactions.of`.

    Raises:
        ValueError: a pair is in the training, stands twice, or has an id that is unknown; says where.
    """
    if unknown not in ("raise", "miss"):
        raise ValueError(f"unknown is 'raise' or 'miss', not {unknown!r}")
    users, items = ({id: place for place, id in enumerate(ids)} for ids in (known.users, known.items))
    rows, seen = rows.plain(), set(known.codes(known.pairs).tolist())
    Interactions.of(rows, duplicates)  # checks them alike
    found: list[tuple[int, int]] = []
    lost, strangers = torch.zeros(len(users), dtype=torch.long), set()
    for (user, item), place in {pair: place for place, pair in enumerate(zip(rows.users, rows.items))}.items():
        if user in users and item in items:
            found.append((users[user], items[item]))
            if found[-1][0] * len(items) + found[-1][1] in seen:
                raise ValueError(f"{rows.where(place)}: user {user!r} has item {item!r} in the training already")
        elif unknown == "raise":
            what = f"user {user!r}" if user not in users else f"item {item!r}"
            raise ValueError(
                f"{rows.where(place)}: the {what} is not in the training: leave the pair out, or count it as not found "
                "with unknown='miss'"
            )
        elif user in users:
            lost[users[user]] += 1
        else:
            strangers.add(user)
    return Held(torch.tensor(found, dtype=torch.long).reshape(-1, 2).T.contiguous(), lost, len(strangers))


def _numbered(ids: Sequence[Any], what: str, where: Callable[[int], str]) -> dict[Any, int]:
    """A number for each id, by first appearance."""
    found: dict[Any, int] = {}
    kind: type | None = None
    for place, id in enumerate(ids):
        if isinstance(id, bool) or not isinstance(id, str | int):
            raise TypeError(f"{where(place)}: the {what} {id!r} is neither a string nor a whole number")
        if isinstance(id, str) and not id.strip():
            other = "user" if what == "item" else "item"
            raise ValueError(f"{where(place)}: the {other} has no {what}")
        if kind is not None and isinstance(id, str) != (kind is str):
            raise TypeError(f"{where(place)}: the {what} {id!r} is a {type(id).__name__}, others are not: use one kind")
        kind = str if isinstance(id, str) else int
        found.setdefault(id, len(found))
    return found
