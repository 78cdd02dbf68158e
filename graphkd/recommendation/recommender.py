"""A recommender for users and items that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from graphkd.recommendation.interactions import Ids
from graphkd.recommendation.metrics import best
from graphkd.recommendation.network import Ties, WeightedGCN
from graphkd.spec import whole as whole_number
from graphkd.students import files
from kdlosses.options import nearest
from kdlosses.whole import whole

_KEY = "graphkd_recommender"


class Recommender:
    """Ranks items for users by dot products of embeddings, which are spread over the network's edges once.

    Args:
        users: ids of the users.
        items: ids of the items.
        network: trained; its nodes are the users, then the items.
        seen: pairs `(2, E)` of places of users and items, which are not recommended again.

    Attributes:
        user_embeddings: `(U, d)`, what users are asked about with.
        item_embeddings: `(I, d)`, what a nearest-neighbour library is built on, by inner product.

    >>> from graphkd.recommendation import distill_recommender
    >>> quick = dict(epochs=2, runs=1)
    >>> result = distill_recommender("blocks", dict(layers=2, width=8, epochs=2), "pruned_supervised", student=quick)
    >>> [len(items) for items in result.student.recommend([0, 7], k=5)]
    [5, 5]
    """

    def __init__(self, users: Ids, items: Ids, network: WeightedGCN, seen: Tensor) -> None:
        self.users, self.items, self.network, self.seen = users, items, network.eval(), seen
        self._place = {id: place for place, id in enumerate(users)}
        self.spread()

    @torch.inference_mode()
    def spread(self) -> None:
        """Compute the embeddings of users and items from what is kept of the network."""
        self.user_embeddings, self.item_embeddings = self.network().split([len(self.users), len(self.items)])

    def recommend(self, users: Iterable[Any], k: int = 20, again: bool = False) -> list[Ids]:
        """The ids of the first `k` items for each of these users, best first.

        Args:
            users: ids, as they were given for the training.
            k: how many.
            again: whether items that a user has are recommended, too.

        Raises:
            KeyError: a user is unknown; names the nearest.
            TypeError: `users` is one id, and no list of them.
            ValueError: there are not so many items, or not so many that a user does not have.
        """
        k, (ids, place) = self._checked(k), self._places(users)
        if not len(place):
            return []
        asked, back = place.unique(return_inverse=True)
        if not again:
            free = len(self.items) - torch.bincount(self.seen[0], minlength=len(self.users))[place]
            if (free < k).any():
                first = int((free < k).int().argmax())
                raise ValueError(
                    f"k is {k}, and there are {int(free[first])} items that user {ids[first]!r} does not have: lower "
                    "k, or pass again=True"
                )
        seen = self.seen[:, :0] if again else self.seen
        with torch.inference_mode():
            found = best(self.user_embeddings[asked], self.item_embeddings, seen, asked, k)[back]
        return [[self.items[item] for item in row] for row in found.tolist()]

    def scores(self, users: Iterable[Any]) -> np.ndarray:
        """The scores of all items for these users, `(n, I)`."""
        _, place = self._places(users)
        with torch.inference_mode():
            return (self.user_embeddings[place] @ self.item_embeddings.T).numpy()

    def export(self, path: str | Path) -> None:
        """Write the embeddings and their ids for a nearest-neighbour library, without pickle.

        An `.npz` holds `user_embeddings`, `item_embeddings`, `user_ids` and `item_ids`, row by row; a `.safetensors`
        the embeddings, and the ids as JSON in its header. The score of a pair is the inner product.

        Raises:
            ValueError: the file is of another kind.
            OSError: it cannot be written; a file that was there is as it was.
        """
        path = Path(path)
        arrays = {name: getattr(self, name).numpy() for name in ("user_embeddings", "item_embeddings")}
        ids = {"user_ids": self.users, "item_ids": self.items}
        if path.suffix == ".npz":
            with whole(path) as draft:
                held: dict[str, Any] = {**arrays, **{name: np.array(each) for name, each in ids.items()}}
                np.savez(draft, **held)
        elif path.suffix == ".safetensors":
            with whole(path) as draft:
                save_file(arrays, draft, {name: json.dumps(each) for name, each in ids.items()})
        else:
            raise ValueError(f"{path}: embeddings are written to a file .npz or .safetensors")

    def packed(self) -> dict[str, Tensor]:
        """What there is of the network: entries of the embedding, edges, and their entries in the matrix.

        Where an entry is away, those that are there are kept with their columns. Entries of the matrix that follow from
        the degrees of nodes, as those of a teacher do, are not kept.
        """
        net, ties = self.network, self.network.ties
        embedding, small = net.embedding.detach(), torch.int16 if net.mask.shape[1] > 255 else torch.uint8
        kept: dict[str, Tensor] = {"embedding": embedding}
        if not net.mask.all():
            row, column = net.mask.nonzero(as_tuple=True)
            count = torch.bincount(row, minlength=len(net.mask))
            kept = {"count": count.to(small), "column": column.to(small), "entry": embedding[row, column]}
        value, plain = ties.value * net.weight.detach(), Ties(ties.ends, ties.nodes)
        if torch.equal(value, plain.value) and torch.equal(ties.loop, plain.loop):
            return {**kept, "ends": ties.ends.int()}
        return {**kept, "ends": ties.ends.int(), "value": value, "loop": ties.loop}

    @property
    def bytes(self) -> int:
        """Bytes of `packed`, which a file has beside ids and the pairs that are not recommended again."""
        return sum(each.nbytes for each in self.packed().values())

    def save(self, path: str | Path) -> None:
        """Write `packed`, the ids and the pairs that are not recommended again to one safetensors file; no pickle."""
        holder = nn.Module()
        for name, each in {**self.packed(), "seen": self.seen.int()}.items():
            holder.register_buffer(name, each)
        shape = {"width": self.network.mask.shape[1], "layers": self.network.layers}
        files.write(path, holder, _KEY, {"users": self.users, "items": self.items, **shape})

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no saved recommender, or is damaged.
        """
        state, meta = files.read(path, _KEY, "recommender")
        with files.rebuilding(path, "recommender"):
            users, items, width = meta["users"], meta["items"], int(meta["width"])
            nodes = len(users) + len(items)
            ends, seen = state["ends"].long(), state["seen"].long()
            for side, low, high in (
                (ends[0], 0, nodes),
                (ends[1], 0, nodes),
                (seen[0], 0, len(users)),
                (seen[1], 0, len(items)),
            ):
                if side.numel() and not low <= int(side.min()) <= int(side.max()) < high:
                    raise ValueError("an edge names a node that is not there")
            value = (state["value"], state["loop"]) if "value" in state else None
            network = WeightedGCN(Ties(ends, nodes, value), width, int(meta["layers"]))
            embedding, mask = state.get("embedding"), torch.ones(nodes, width, dtype=torch.bool)
            if embedding is None:
                row = torch.arange(nodes).repeat_interleave(state["count"].long())
                mask = torch.zeros(nodes, width, dtype=torch.bool)
                mask[row, state["column"].long()] = True
                embedding = torch.zeros(nodes, width)
                embedding[row, state["column"].long()] = state["entry"]
            network.load_state_dict(
                {
                    "weight": torch.ones(ends.shape[1]),
                    "embedding": embedding,
                    "mask": mask,
                    "kept": torch.arange(ends.shape[1]),
                }
            )
            return cls(users, items, network, seen)

    def _places(self, users: Iterable[Any]) -> tuple[list[Any], Tensor]:
        """The ids that are asked about, and their places."""
        if isinstance(users, str) or not isinstance(users, Iterable):
            raise TypeError(f"users are a list of ids, got {users!r}: for one user write [{users!r}]")
        ids = list(users)
        return ids, torch.tensor([self._of(id) for id in ids], dtype=torch.long)

    def _of(self, user: Any) -> int:
        user = user.item() if isinstance(user, np.generic | Tensor) else user
        if not isinstance(user, str | int) or user not in self._place:
            known = {str(id): id for id in self.users}
            hint = (
                f"did you mean {known[str(user)]!r}?" if str(user) in known else nearest(str(user), [*known][:10_000])
            )
            raise KeyError(f"no user {user!r} was in the training; {hint}")
        return self._place[user]

    def _checked(self, k: Any) -> int:
        k = whole_number("k", k, 1)
        if k > len(self.items):
            raise ValueError(f"k is {k}, and there are {len(self.items)} items")
        return k
