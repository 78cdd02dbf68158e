"""Edge sampling: uniform draws for a step, or keep probabilities for an epoch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 1 << 16  # edges at a time, so that memory does not grow with their number


class EdgeDraws:
    """Edges drawn uniformly with replacement, read for many steps at once in the order on disk.

    A step that reads its own few out of a file of gigabytes waits for a page of the file for each of them.

    Args:
        edge_index: `(2, E)`, in memory or memory-mapped, E > 0.
        ahead: how many to read at once; a step that needs more reads as many as it needs.
        generator: draws them.

    >>> draws = EdgeDraws(torch.tensor([[0, 1, 2], [1, 2, 0]]), ahead=8, generator=torch.Generator().manual_seed(0))
    >>> draws(5).shape, draws(5).shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    def __init__(self, edge_index: Tensor, ahead: int, generator: torch.Generator) -> None:
        self.edge_index, self.ahead, self.generator = edge_index, ahead, generator
        self.left = edge_index[:, :0]

    def __call__(self, count: int) -> Tensor:
        """Return the next edges `(2, count)`."""
        if self.left.shape[1] < count:
            place = torch.randint(self.edge_index.shape[1], (max(count, self.ahead),), generator=self.generator)
            order = place.argsort()
            self.left = torch.empty(2, len(place), dtype=self.edge_index.dtype)
            self.left[:, order] = self.edge_index[:, place[order]]
        found, self.left = self.left[:, :count], self.left[:, count:]
        return found


def entropy(logits: Tensor) -> Tensor:
    """Entropy `(N,)`, in nats, of the predictions with logits `(N, C)`.

    >>> entropy(torch.tensor([[0.0, 0.0], [0.0, 200.0]]))
    tensor([0.6931, 0.0000])
    """
    return torch.special.entr(logits.softmax(1)).sum(1)


def relative(values: Tensor) -> Tensor:
    """Divide non-negative values by their maximum; all 0 if that is 0.

    >>> relative(torch.tensor([1.0, 4.0])), relative(torch.zeros(2))
    (tensor([0.2500, 1.0000]), tensor([0., 0.]))
    """
    return values / values.max().clamp_min(torch.finfo(values.dtype).tiny)


def keep_reliable(shaken: Tensor, edge_index: Tensor, power: float) -> Tensor:
    r"""Keep probability $1 - \rho_j^a$ of the edge from j to i, high for sources robust to noise, see `krd`.

    Args:
        shaken: $\rho$ `(N,)`, 0 to 1.
        edge_index: `(2, E)`, source j above target i.
        power: a, positive.

    >>> keep_reliable(torch.tensor([0.5, 1.0]), torch.tensor([[0, 1], [1, 0]]), power=2.0)
    tensor([0.7500, 0.0000])
    """
    return (1 - shaken**power)[edge_index[0]]


def keep_for_hard(teacher: Tensor, student: Tensor, similar: Tensor, edge_index: Tensor, alpha: float) -> Tensor:
    r"""Keep probability of edges, high from easy nodes to similar hard ones, see `hgmd`.

    $$ P_{ji} = 1 - \exp\Bigl( -\alpha \, c_{ij} \frac{\sqrt{H^t_i H^s_i}}{H^t_j} \Bigr) $$

    of the edge from j to i, with entropies H relative to their greatest and at least 1e-8.

    Args:
        teacher: logits `(N, C)`.
        student: logits `(N, C)`.
        similar: c `(E,)`, see `similarity`.
        edge_index: `(2, E)`, source j above target i.
        alpha: the greater, the more is kept; 0 keeps nothing.

    >>> z = torch.tensor([[0.0, 0.0], [0.0, 3.0]])  # a hard node and an easy one
    >>> keep_for_hard(z, z, torch.ones(2), torch.tensor([[0, 1], [1, 0]]), alpha=0.5)
    tensor([0.1286, 0.8373])
    """
    source, target = edge_index
    hard_t, hard_s = (relative(entropy(logits)).clamp_min(1e-8) for logits in (teacher, student))
    return -torch.expm1(-alpha * similar * (hard_t * hard_s).sqrt()[target] / hard_t[source])


def similarity(logits: Tensor, edge_index: Tensor) -> Tensor:
    """Cosine similarity `(E,)` of the predictions at the two ends of each edge, from logits `(N, C)`.

    >>> similarity(torch.tensor([[0.0, 99.0], [0.0, 0.0]]), torch.tensor([[0], [1]]))
    tensor([0.7071])
    """
    unit = F.normalize(logits.softmax(1), dim=1)
    blocks = edge_index.split(_BLOCK, dim=1)
    return torch.cat([(unit[source] * unit[target]).sum(1) for source, target in blocks])
