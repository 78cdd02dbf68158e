"""The loss of `login` on the embeddings of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.unit import cosines


class AttractRepel(nn.Module):
    r"""Attract & Repel: embeddings of one predicate come together, away from those of the others.

    $$ L = \frac{1}{|S|} \sum_{i \in S} (1 - \cos(e_i, a_{y_i})), \qquad
       a_c = \mu_c - \frac{1}{|K| - 1} \sum_{c' \in K, c' \neq c} \mu_{c'} $$

    over the pairs S whose predicate y the network gets right. $\mu_c$ is the moving average of the mean of their
    embeddings e, of unit length; K are the predicates that have one. No gradient goes through the anchors a.

    That anchors are what a predicate's embeddings have and others have not, and that they are made of what is right, is
    in the authors' code; there an anchor is a difference of sums, in which frequent predicates outweigh all others.
    That all predicates count alike, and the moving average, are ours.

    Args:
        predicates: how many.
        width: of embeddings.
        momentum: share of the old mean that stays in a step.

    Shape: embeddings `(P, width)`, predicates `(P,)` and whether each is right `(P,)`, to a scalar; 0 where none is.
    """

    means: Tensor
    there: Tensor

    def __init__(self, predicates: int, width: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("means", torch.zeros(predicates, width), persistent=False)
        self.register_buffer("there", torch.zeros(predicates, dtype=torch.bool), persistent=False)

    def forward(self, embeddings: Tensor, predicates: Tensor, right: Tensor) -> Tensor:
        if not right.any():
            return embeddings.sum() * 0
        embeddings, predicates = embeddings[right], predicates[right]
        self.update(nn.functional.normalize(embeddings.detach(), dim=1), predicates)
        return (1 - cosines(embeddings, self.anchors()[predicates], dim=1)).mean()

    @torch.no_grad()
    def update(self, embeddings: Tensor, predicates: Tensor) -> None:
        """Move the means of the predicates that are here; a first one is taken as it is."""
        count = torch.bincount(predicates, minlength=len(self.means))
        fresh = torch.zeros_like(self.means).index_add(0, predicates, embeddings) / count.clamp_min(1)[:, None]
        stay = torch.where(self.there, self.momentum, 0.0)[:, None]
        self.means = torch.where(count[:, None] > 0, stay * self.means + (1 - stay) * fresh, self.means)
        self.there = self.there | (count > 0)

    def anchors(self) -> Tensor:
        """`(C, width)`; 0 for predicates that have none."""
        total, others = self.means.sum(0), int(self.there.sum()) - 1
        rest = (total - self.means) / max(others, 1)
        return torch.where(self.there[:, None], self.means - rest, torch.zeros_like(self.means))


def opposite_apart(embeddings: Tensor, back: Tensor, differ: Tensor, margin: float = 0.0) -> Tensor:
    r"""The two directions between two entities have embeddings that are not alike.

    $$ L = \frac{1}{|D|} \sum_{(s, o) \in D} \max(0, \cos(e_{so}, e_{os}) - m) $$

    over the pairs D whose two directions have no predicate in common. The authors' code has it, with a Euclidean margin
    and switched off.

    Args:
        embeddings: `(P, d)`.
        back: `(P,)`, place of the pair in the opposite direction.
        differ: `(P,)`, whether its predicate is another; no gradient, and 0, where there is no such pair.
        margin: m.

    >>> opposite_apart(torch.eye(2), torch.tensor([1, 0]), torch.tensor([True, True])).item()
    0.0
    """
    if not differ.any():
        return embeddings.sum() * 0
    return (cosines(embeddings, embeddings[back], dim=1)[differ] - margin).clamp_min(0).mean()
