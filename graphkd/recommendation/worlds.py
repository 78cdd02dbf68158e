"""A small world of users and items whose tastes are known; no download needed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphkd.recommendation.interactions import Held, Interactions, Rows, held
from graphkd.spec import real, whole


class World(NamedTuple):
    """Pairs and what is true of them.

    Attributes:
        known: pairs to learn from.
        test: pairs to be found, all of them of the users' tastes.
        noise: `(E,)`, which pairs of `known` are of no taste.
    """

    known: Interactions
    test: Held
    noise: Tensor


def block_world(
    users: int = 120,
    items: int = 90,
    tastes: int = 3,
    each: int = 10,
    tested: int = 4,
    noise: float = 0.25,
    seed: int = 0,
) -> World:
    """Users and items in blocks: a user has items of the own block, and by mistake some of other blocks.

    Args:
        users: how many, dealt out to the blocks one by one.
        items: likewise.
        tastes: how many blocks.
        each: items of the own block that a user has in the training.
        tested: further items of the own block that are to be found.
        noise: how many items of other blocks a user has in the training, as a share of `each`.
        seed: of what is drawn.

    Raises:
        ValueError: a number is out of range, or a block has fewer items than a user takes.

    >>> world = block_world(users=12, items=30, each=5, noise=0.2)
    >>> world.known.pairs.shape[1], int(world.noise.sum())
    (72, 12)
    """
    users, items, tastes = (
        whole(name, value, 1) for name, value in (("users", users), ("items", items), ("tastes", tastes))
    )
    each, tested, noise = whole("each", each, 1), whole("tested", tested, 1), real("noise", noise)
    wrong = round(noise * each)
    if tastes < 2 or users < tastes or items // tastes < each + tested or items - -(-items // tastes) < wrong:
        raise ValueError(
            f"{items} items and {users} users in {tastes} blocks: take 2 blocks or more, a user in each, and in a "
            f"block no fewer items than the {each + tested} that a user has of the own"
        )
    draw = torch.Generator().manual_seed(seed)
    own = torch.arange(users)[:, None] % tastes == torch.arange(items) % tastes
    order = (torch.rand(users, items, generator=draw) - own.float()).argsort(1)  # of the own block first
    good, asked = order[:, :each], order[:, each : each + tested]
    bad = order[:, items - wrong :]
    had = torch.cat([good, bad], 1)
    user = torch.arange(users)[:, None]
    known = Interactions.of(Rows(user.expand_as(had).flatten(), had.flatten()))
    test = held(Rows(user.expand_as(asked).flatten(), asked.flatten()), known)
    return World(known, test, torch.arange(each + wrong).repeat(users) >= each)
