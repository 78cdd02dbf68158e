from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register(name="dac_kl")
class DACKL(nn.Module):
    r"""Distill the dense part of the teacher's distribution, within bounds that a small network sets per position.

    Rank the classes by the teacher, $p$ falling, and let $F_c$ be the mass above class c plus half its own. A network
    $C \to h \to 2$ with sigmoid outputs reads the ranked $p$ and gives bounds $\mathrm{lo} < \mathrm{hi}$. A class
    inside, $m_c$ near 1, is compared by itself; those outside are one class together, the rest:

    $$ m_c = \sigma\Big(\frac{F_c - \mathrm{lo}}{\epsilon}\Big) \, \sigma\Big(\frac{\mathrm{hi} - F_c}{\epsilon}\Big),
       \qquad l_i = \sum_c m_c p_c \log \frac{p_c}{q_c} + \bar p \log \frac{\bar p}{\bar q}, \quad
       \bar p = \sum_c (1 - m_c) p_c, \; \bar q = \sum_c (1 - m_c) q_c, $$

    with $m = 1$ for the likeliest class and for the label. Beside it, over pairs of neighbours $(i, j)$, edges of a
    graph or adjacent positions of a map,

    $$ L = \frac{\sum_i w_i l_i}{\sum_i w_i} + \lambda \,
       \frac{\sum_{ij} w_i w_j \frac1C \sum_c |p_{ic} p_{jc} - q_{ic} q_{jc}|}{\sum_{ij} w_i w_j}. $$

    No bounds can hide that the networks disagree on the likeliest class, the label or the mass of the rest: $l_i$ is at
    least the divergence of (likeliest class, all others), and at most `kl`. Nor does the network learn to hide the
    remainder: the student has no say in it. It learns from the teacher alone where that is dense, by the gradient of

    $$ D = \sum_i w_i \Big( 1 - \sum_c m_c p_c + \frac{\mu}{C} \sum_c m_c \Big) \Big/ \sum_i w_i, $$

    least where exactly the classes of $p_c > \mu / C$ are inside. The value of D is not in that of the loss. At the
    start almost all classes are inside, so that training begins at `kl`.

    Args:
        classes: C.
        hidden: $h$.
        eps: softness of the bounds, in probability mass.
        density: $\mu$, how dense a class must be to be compared by itself, in shares of a uniform distribution; with 0
            all are.
        pair_weight: $\lambda$.
        ignore_index: label that marks a position without a label.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices, to keep the label inside. A position without one, negative or `ignore_index`,
            counts all the same: the teacher speaks of it, too.
        edge_index: `(2, E)`, pairs of nodes; without it nodes have no pairs, maps have those of their grid.
        weight: `(N, *)`, positions to count.

    Paper: Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024 (there DAC-KL
    and span relation), for a network that finds the dense part of the teacher's distribution. Its code is not public;
    mask, rest and D are ours, and so are the pairs in place of its spans of tokens. Means over positions and pairs; the
    factor to the authors' weights is unknown.

    >>> loss = DACKL(classes=3)
    >>> z = torch.randn(2, 3, 4, 4)
    >>> abs(loss(z, z).item()) < 1e-6
    True
    """

    def __init__(
        self,
        classes: int,
        hidden: int = 64,
        eps: float = 0.02,
        density: float = 0.1,
        pair_weight: float = 0.1,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"dac_kl needs eps > 0, got {eps}")
        self.eps, self.density, self.pair_weight, self.ignore_index = eps, density, pair_weight, ignore_index
        last = Pointwise(hidden, 2)
        nn.init.normal_(last.weight, std=0.01)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([-5.0, 5.0]))
        self.network = nn.Sequential(Pointwise(classes, hidden), nn.ReLU(), last)

    def bounds(self, ranked: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound `(N, 1, *)` from the teacher's probabilities in falling order, `(N, C, *)`."""
        ends = torch.sigmoid(self.network(ranked))
        return ends.amin(1, keepdim=True), ends.amax(1, keepdim=True)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        edge_index: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        log_p, log_q = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
        p, q = log_p.exp(), log_q.exp()
        pairs = self.pair_weight * _pairs(p, q, edge_index, weight)
        order = p.argsort(dim=1, descending=True)
        ranked = p.gather(1, order)
        low, high = self.bounds(ranked)
        place = ranked.cumsum(1) - ranked / 2
        inside = torch.sigmoid((place - low) / self.eps) * torch.sigmoid((high - place) / self.eps)
        inside = torch.cat([torch.ones_like(inside[:, :1]), inside[:, 1:]], dim=1)
        inside = torch.empty_like(p).scatter(1, order, inside)
        if labels is not None:
            labels, known = labelled(labels, weight, self.ignore_index, student.shape[1])
            own = torch.zeros_like(inside).scatter(1, labels.unsqueeze(1), (known > 0).to(inside).unsqueeze(1))
            inside = torch.maximum(inside, own)
        sparse = 1 - ((p - self.density / p.shape[1]) * inside).sum(1)
        dense = weighted_mean(sparse - sparse.detach(), weight)  # a gradient of the network, and no value
        inside = inside.detach()
        tiny = torch.finfo(p.dtype).tiny
        rest_p, rest_q = (((1 - inside) * x).sum(1).clamp_min(tiny) for x in (p, q))
        each = (inside * p * (log_p - log_q)).sum(1) + rest_p * (rest_p.log() - rest_q.log())
        return weighted_mean(each, weight) + pairs + dense


def _pairs(p: Tensor, q: Tensor, edge_index: Tensor | None, weight: Tensor | None) -> Tensor:
    """Mean over the pairs of neighbours of how far the products of their distributions differ."""
    ones = torch.ones_like(p[:, 0]) if weight is None else weight.to(p.dtype)
    if edge_index is not None:
        p, q, ones = (x[edge_index[0]] * x[edge_index[1]] for x in (p, q, ones))
        return weighted_mean((p - q).abs().mean(1), ones)

    def grid(x: Tensor, axis: int) -> Tensor:
        return x.narrow(axis, 1, x.shape[axis] - 1) * x.narrow(axis, 0, x.shape[axis] - 1)

    axes = range(2, q.ndim)
    values = [(grid(p, axis) - grid(q, axis)).abs().mean(1).flatten() for axis in axes]
    counts = [grid(ones, axis - 1).flatten() for axis in axes]
    return weighted_mean(torch.cat(values), torch.cat(counts)) if values else q.new_zeros(())
