"""All that a recipe for recommendation may look at."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkd.recommendation.network import Ties, WeightedGCN
from graphkd.recommendation.terms import bpr
from graphkd.training.loop import History


@dataclass(frozen=True)
class Target:
    """What is left of a student in the end, and in how many steps.

    Attributes:
        edges: share of the edges.
        entries: share of the entries of the embedding.
        runs: after so many trainings something is taken away; one more follows.
    """

    edges: float = 0.2
    entries: float = 0.1
    runs: int = 10

    def after(self, run: int, edges: int, entries: int) -> tuple[int, int]:
        """How many edges and entries are left after a run, from 0.

        >>> Target(0.2, 0.1, 2).after(0, 100, 1000), Target(0.2, 0.1, 2).after(1, 100, 1000)
        ((45, 316), (20, 100))
        """
        done = (run + 1) / self.runs
        return max(1, round(edges * self.edges**done)), max(1, round(entries * self.entries**done))


@dataclass(frozen=True, eq=False)
class RecommendationLesson:
    """The data that a recipe may use: pairs of validation and test are left out.

    Nodes are users, then items; an edge is a pair to learn from.

    Attributes:
        edges: `(2, E)`, users above items.
        users: how many nodes are users.
        nodes: how many there are.
        loop: the shared training loop with its schedule, validation and generator bound, called as `loop(model, loss)`;
            a third argument are epochs in place of those of the schedule.
        generator: for whatever a recipe draws.
        target: what is to be left of the student.
        teacher: embeddings `(N, d)` of each of the teacher's layers, from that of the nodes themselves on.
    """

    edges: Tensor
    users: int
    nodes: int
    loop: Callable[..., History]
    generator: torch.Generator
    target: Target
    teacher: list[Tensor] | None = None

    def __len__(self) -> int:
        return self.edges.shape[1]

    def layers(self) -> list[Tensor]:
        """Return the layers of the teacher; raise if there is none."""
        if self.teacher is None:
            raise ValueError("this recipe learns from a teacher, and there is none")
        return self.teacher

    def triples(self, batch: Tensor | slice) -> Tensor:
        """The edges of a step, and for each an item that its user does not have, newly drawn: nodes `(3, n)`."""
        user, item = self.edges[:, batch]
        return torch.stack([user, item, self._others(user)])

    def any_triples(self, count: int) -> Tensor:
        """A user and two items, drawn at random: nodes `(3, count)`."""
        user = torch.randint(self.users, (count,), generator=self.generator)
        items = torch.randint(self.users, self.nodes, (2, count), generator=self.generator)
        return torch.cat([user[None], items])

    def some(self, count: int) -> tuple[Tensor, Tensor]:
        """At most so many users and as many items, drawn at random, each once."""
        users = torch.randperm(self.users, generator=self.generator)[:count]
        return users, self.users + torch.randperm(self.nodes - self.users, generator=self.generator)[:count]

    def hard_loss(self, embeddings: Tensor, batch: Tensor | slice) -> Tensor:
        """`bpr` of the edges of a step."""
        return bpr(embeddings, self.triples(batch))

    def prune(
        self,
        model: WeightedGCN,
        loss: Callable[[Tensor | slice], Tensor],
        strength: Callable[[WeightedGCN], Tensor],
    ) -> History:
        """Train, take away the weakest edges and the smallest entries, and so on; train what is left.

        Args:
            model: trained in place.
            loss: of a step.
            strength: a number for each edge that is there, `(E',)`; of equals the first is kept.

        Returns:
            the record of all trainings, of which the epoch and its score are those of the last.
        """
        edges, entries = len(model.weight), model.embedding.numel()
        found = [self.loop(model, loss)]
        for run in range(self.target.runs):
            with torch.no_grad():
                left = self.target.after(run, edges, entries)
                size = model.embedding.abs().masked_fill(~model.mask, -1).flatten()
                model.keep(strongest(strength(model), left[0]), strongest(size, left[1]))
            found.append(self.loop(model, loss))
        last = found[-1]
        last.seconds = list(itertools.chain(*(each.seconds for each in found)))
        last.losses = list(itertools.chain(*(each.losses for each in found)))
        last.epochs = len(last.seconds)
        return last

    def _others(self, user: Tensor) -> Tensor:
        """An item for each user that the user does not have."""
        item = torch.randint(self.users, self.nodes, user.shape, generator=self.generator)
        while len(wrong := torch.isin(user * self.nodes + item, self._had).nonzero().flatten()):
            item[wrong] = torch.randint(self.users, self.nodes, wrong.shape, generator=self.generator)
        return item

    @functools.cached_property
    def _had(self) -> Tensor:
        return self.edges[0] * self.nodes + self.edges[1]

    @functools.cached_property
    def ties(self) -> Ties:
        """The edges, for a network."""
        return Ties(self.edges, self.nodes)


def strongest(strength: Tensor, count: int) -> Tensor:
    """Places of so many greatest values, in ascending order; of equal ones the first.

    >>> strongest(torch.tensor([1.0, 2.0, 1.0, 3.0]), 3)
    tensor([0, 1, 3])
    """
    return strength.argsort(descending=True, stable=True)[:count].sort().values
