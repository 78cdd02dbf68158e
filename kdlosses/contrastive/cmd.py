from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.unit import unit


@register(match="positions", categorical=True)
class CMD(nn.Module):
    r"""Cross-level multi-instance distillation: attention-pooled regions and wholes, between the networks and within.

    A bag is a set of positions: a region (a crop of a map; a node with its neighbours) or a whole (the map or graph;
    of a single graph, for each node the regions of its neighbours). Few instances say what a bag is; a small network
    of each side finds them, and pools the bag b to

    $$ f_b = \sum_{i \in b} a_{bi} f_i, \qquad
       a_{bi} = \frac{w_i e^{s_i}}{\sum_{j \in b} w_j e^{s_j}}, \quad s_i = A \tanh(V f_i / \|f_i\|). $$

    With $u_b$ the student's bag, projected by W onto the teacher's channels, $v_b$ the teacher's, both of length 1,
    $p_b = \mathrm{softmax}_k(\langle v_b, v_k \rangle / \tau_t)$ over the bags of b's level and
    $q_b = \mathrm{softmax}_k(\langle u_b, v_k \rangle / \tau_s)$, the loss between the networks and the one within one
    of them, in which a region r looks for its own whole $n(r)$ among all of them, are

    $$ B = \mathrm{mean}_r \, \mathrm{KL}(p_r \| q_r) + \mathrm{mean}_n \, \mathrm{KL}(p_n \| q_n), \qquad
       I(x) = - \mathrm{mean}_r \log \frac{e^{\langle x_r, x_{n(r)} \rangle / \tau_s}}
                                         {\sum_n e^{\langle x_r, x_n \rangle / \tau_s}}, \qquad
       L = B + \lambda \, (I(u) + I(v)). $$

    $I(v)$ trains the attention of the teacher, and nothing else does: trained by B it would learn to show the student
    what that can do already. A single whole has no others to be told from: I is 0 then. Pairs are held in blocks. The
    networks train with the student and are thrown away.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        regions: a map is cut into so many crops along each axis of space, or as many as it has positions there.
        hidden: width of the attention, the rows of V.
        student_tau: $\tau_s$.
        teacher_tau: $\tau_t$.
        within: $\lambda$.
        draw: number of regions to draw at random in each call, at least 2; all if not given.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        edge_index: `(2, E)`, sources and targets: the region of a node is itself and its sources, without edges itself.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.
        weight: `(N, *)`, positions to count.

    Paper: Bi et al., "Cross-Level Multi-Instance Distillation for Self-Supervised Fine-Grained Visual Categorization",
    TIP 2025. There the teacher is a moving average of the student and bags are compared by their shares of learned
    prototypes; for a frozen teacher of another width the other bags of the batch stand in for those. The factor to the
    authors' weights is unknown. Another CMD, between modalities, is `cross_modal_mutual`.

    >>> loss = CMD(student_channels=3, teacher_channels=4)
    >>> loss(torch.randn(2, 3, 8, 8), torch.randn(2, 4, 8, 8)) > 0
    tensor(True)
    """

    moved = "the loss that was called 'cmd', between modalities, is 'cross_modal_mutual'"

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        regions: int = 2,
        hidden: int = 64,
        student_tau: float = 0.1,
        teacher_tau: float = 0.05,
        within: float = 1.0,
        draw: int | None = None,
    ) -> None:
        super().__init__()
        if draw is not None and draw < 2:
            raise ValueError(f"cmd: draw must be at least 2 for a region to be told from another, got {draw}")
        self.student, self.teacher = Attention(student_channels, hidden), Attention(teacher_channels, hidden)
        self.projection = nn.Linear(student_channels, teacher_channels, bias=False)
        self.regions, self.within, self.draw = regions, within, draw
        self.student_tau, self.teacher_tau = student_tau, teacher_tau

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        if weight is None:
            weight = student.new_ones(student.shape[:1] + student.shape[2:])
        bags = _of_map(weight, self.regions) if student.ndim > 2 else _of_nodes(weight, edge_index, batch)
        student, teacher = (x.movedim(1, -1).flatten(0, -2) for x in (student, teacher))
        weight = weight.flatten().to(student.dtype)
        regions_s, wholes_s = (self.projection(x) for x in bags.pool(student, self.student(student, weight)))
        regions_t, wholes_t = bags.pool(teacher, self.teacher(teacher, weight))
        here, owner = bags.weight, bags.owner
        if self.draw is not None and self.draw < len(here):
            lot = torch.rand_like(here).masked_fill(here == 0, -1).topk(self.draw).indices
            regions_s, regions_t, here, owner = regions_s[lot], regions_t[lot], here[lot], owner[lot]
        met = here.new_zeros(len(wholes_s)).index_add(0, owner, here) > 0
        u, v, u_whole, v_whole = (unit(x, dim=1) for x in (regions_s, regions_t, wholes_s, wholes_t))
        between = self._between(u, v.detach(), here) + self._between(u_whole, v_whole.detach(), met.to(here.dtype))
        each = self._within(u, u_whole, owner, met) + self._within(v, v_whole, owner, met)
        return between + self.within * weighted_mean(each, here)

    def _between(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        """Divergence of the student's resemblance to the teacher's bags from the teacher's own."""
        off = _off(weight > 0, v)

        def divergence(u: Tensor, own: Tensor) -> Tensor:
            log_p = (own @ v.mT / self.teacher_tau + off).log_softmax(2)
            return (log_p.exp() * (log_p - (u @ v.mT / self.student_tau + off).log_softmax(2))).sum(2)

        return weighted_mean(by_rows(divergence, u[None], v[None], columns=len(v))[0], weight)

    def _within(self, x: Tensor, wholes: Tensor, owner: Tensor, met: Tensor) -> Tensor:
        """For each region, how badly it is told which whole it is of."""
        off = _off(met, wholes)

        def surprise(rows: Tensor, owner: Tensor) -> Tensor:
            logits = rows @ wholes.mT / self.student_tau + off
            return logits.logsumexp(2) - logits.gather(2, owner.unsqueeze(2)).squeeze(2)

        return by_rows(surprise, x[None], owner[None], columns=len(wholes))[0]


class Attention(nn.Module):
    """How much each row of `(n, C)` counts in its bags, from 0 on: its weight times the exponential of its score."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, rows: Tensor, weight: Tensor) -> Tensor:
        score: Tensor = self.score(unit(rows, dim=1)).squeeze(1)
        return weight * (score - score.detach().amax()).exp()  # tanh bounds the score: none is too small


class _Bags(NamedTuple):
    """Which rows are in which region, and which whole a region belongs to."""

    row: Tensor  # of each pair of a row and a region
    region: Tensor
    weight: Tensor  # of each region
    owner: Tensor  # whole of each region
    part: Tensor | None  # of each pair of a region and a whole; None where a whole is the sum of the regions it owns
    whole: Tensor
    wholes: int

    def pool(self, rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the rows of each region and of each whole, `(bags, C)`, weighted by their shares."""
        both = torch.cat([rows * share.unsqueeze(1), share.unsqueeze(1)], dim=1)  # a share rides along with its sum
        regions = both.new_zeros(len(self.weight), both.shape[1]).index_add(0, self.region, both[self.row])
        parts = both if self.part is None else regions[self.part]
        wholes = both.new_zeros(self.wholes, both.shape[1]).index_add(0, self.whole, parts)
        return _mean(regions), _mean(wholes)


def _mean(sums: Tensor) -> Tensor:
    return sums[:, :-1] / sums[:, -1:].clamp_min(torch.finfo(sums.dtype).tiny)


def _of_map(weight: Tensor, regions: int) -> _Bags:
    """Bags of maps with weight `(N, *)`: each map, and its crops on a regular grid."""
    cell, count = torch.zeros_like(weight[0], dtype=torch.long), 1
    for axis, size in enumerate(weight.shape[1:]):
        cuts = min(regions, size)
        place = torch.arange(size, device=weight.device) * cuts // size
        cell = cell * cuts + place.view(-1, *[1] * (weight.ndim - 2 - axis))
        count *= cuts
    sample = torch.arange(len(weight), device=weight.device)
    region = (sample.view(-1, *[1] * cell.ndim) * count + cell).flatten()
    row, whole = torch.arange(len(region), device=weight.device), sample.repeat_interleave(cell.numel())
    met = torch.zeros(len(weight) * count, device=weight.device).index_add(0, region, (weight > 0).flatten().float())
    here = (met > 0).to(torch.promote_types(weight.dtype, torch.float32))
    return _Bags(row, region, here, sample.repeat_interleave(count), None, whole, len(weight))


def _of_nodes(weight: Tensor, edge_index: Tensor | None, batch: Tensor | None) -> _Bags:
    """Bags of nodes with weight `(N,)`: each node with its sources, and its graph or the regions of its sources."""
    n, own = len(weight), torch.arange(len(weight), device=weight.device)
    here = weight.to(torch.promote_types(weight.dtype, torch.float32))
    row, region = (own, own) if edge_index is None else (torch.cat([ends, own]) for ends in edge_index)
    if batch is None and edge_index is not None:
        return _Bags(row, region, here, own, row, region, n)
    graph = torch.zeros_like(own) if batch is None else torch.unique(batch, return_inverse=True)[1]
    return _Bags(row, region, here, graph, None, graph, n)


def _off(kept: Tensor, values: Tensor) -> Tensor:
    """0 for bags that count; for others a number so small that its exponential is 0, and that has a product with 0."""
    return torch.zeros_like(values[:, 0]).masked_fill(~kept, torch.finfo(values.dtype).min / 4)
