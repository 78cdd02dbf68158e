from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.contrastive.queue import Queue
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import points
from kdlosses.unit import unit


@register(match="positions")
class CRD(nn.Module):
    r"""Contrastive representation distillation: separate matching pairs from negatives in a memory, by NCE.

    Both sides are mapped to embeddings u, v of length 1. With $g(u, v) = \exp(\langle u, v \rangle / \tau) / Z$, K
    negatives $m_k$ in memory, n the size of the data set and $c = K / n$, an anchor costs

    $$ l(u, v, m) = - \log \frac{g(u, v)}{g(u, v) + c} - \sum_{k=1}^K \log \frac{c}{g(u, m_k) + c}, $$

    in nats, and $L = \mathrm{mean}_i \big[ l(u_i, v_i, m^v) + l(v_i, u_i, m^u) \big]$. The first batch sets Z: n times
    the mean of the exponentials. The embeddings train with the student and are thrown away. Pairs are held in blocks.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        samples: n.
        negatives: K.
        channels: width of the embeddings.
        tau: temperature.
        ignore_index: label that marks a position to leave out.
        draw: number of positions to draw at random in each call; all if not given.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count, and to take into the memory.
        labels: `(N, *)`, class indices; negatives of one's own class do not count. Negative or `ignore_index` means
            weight 0.

    Paper: Tian et al., "Contrastive Representation Distillation", ICLR 2020. Factor 1; weight 0.8. The memory is our
    own: a loss does not receive sample indices, so instead of banks with a place for each sample, a queue keeps the
    embeddings of the last K positions, and the positive is the partner in the batch, not its older self.

    >>> import torch
    >>> loss = CRD(student_channels=3, teacher_channels=4, samples=100, negatives=16, channels=8)
    >>> loss(torch.randn(5, 3), torch.randn(5, 4)) > 0
    tensor(True)
    """

    log_z: Tensor  # of both directions

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        samples: int,
        negatives: int = 16384,
        channels: int = 128,
        tau: float = 0.07,
        ignore_index: int = 255,
        draw: int | None = None,
    ) -> None:
        super().__init__()
        self.student_embed = nn.Linear(student_channels, channels)
        self.teacher_embed = nn.Linear(teacher_channels, channels)
        self.memory = Queue(negatives, 2 * channels + 1)  # u, v and the class
        self.memory.items[:, :-1] = torch.randn(negatives, 2 * channels)
        self.memory.items[:, -1] = -1
        self.memory.weight.fill_(1)
        self.register_buffer("log_z", torch.zeros(2))
        self.started = False
        self.register_load_state_dict_post_hook(_resume)
        self.samples, self.tau, self.ignore_index, self.draw = samples, tau, ignore_index, draw

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        if labels is None:
            classes = student.new_full((student.shape[0], 1, *student.shape[2:]), -1)
        else:
            labels, weight = labelled(labels, weight, self.ignore_index)
            classes = labels.unsqueeze(1).to(student.dtype)
        some = weight is None or self.started or bool((weight > 0).any())
        student, teacher, weight = points(student, torch.cat([teacher, classes], dim=1), weight, draw=self.draw)
        own = teacher[..., -1]
        u, v = unit(self.student_embed(student), dim=2), unit(self.teacher_embed(teacher[..., :-1]), dim=2)
        memory, share = self.memory.items.to(u.dtype, copy=True), self.memory.weight.to(u.dtype, copy=True)
        past_u, past_v, past_class = memory.split([u.shape[2], v.shape[2], 1], dim=1)
        directions = [(u, v, unit(past_v, dim=1)), (v, u, unit(past_u, dim=1))]
        if some and not self.started:
            self.log_z.copy_(torch.stack([self._log_z(*d, share, weight) for d in directions]))
            self.started = True
        rivals = None if labels is None else past_class.squeeze(1)
        costs = [self._cost(*d, share, log_z, own, rivals) for d, log_z in zip(directions, self.log_z.clone())]
        if self.training:
            self.memory.push(torch.cat([u, v, own.unsqueeze(2)], dim=2)[0], weight[0])
        return weighted_mean(costs[0] + costs[1], weight)

    @torch.no_grad()
    def _log_z(self, anchors: Tensor, partners: Tensor, memory: Tensor, share: Tensor, weight: Tensor) -> Tensor:
        """Log of the size of the data set times the mean exponential, over anchors, partners and memory."""

        def log_mean(rows: Tensor, own: Tensor) -> Tensor:
            positive = (rows * own).sum(2, keepdim=True) / self.tau
            negative = rows @ memory.mT / self.tau + share.log()
            return torch.cat([positive, negative], dim=2).logsumexp(2) - (1 + share.sum()).log()

        each = by_rows(log_mean, anchors, partners, columns=len(share))
        return math.log(self.samples) + (each + weight.log()).logsumexp(1).squeeze(0) - weight.sum().log()

    def _cost(
        self,
        anchors: Tensor,
        partners: Tensor,
        memory: Tensor,
        share: Tensor,
        log_z: Tensor,
        own: Tensor,
        rivals: Tensor | None,
    ) -> Tensor:
        """What each anchor costs, `(1, n)`."""
        tiny = torch.finfo(share.dtype).tiny

        def nce(rows: Tensor, partner: Tensor, own: Tensor) -> Tensor:
            counted = share.expand(1, 1, -1)
            if rivals is not None:
                counted = counted * (own.unsqueeze(2) != rivals)
            log_c = (counted.sum(2, keepdim=True).clamp_min(tiny) / self.samples).log()
            positive = (rows * partner).sum(2, keepdim=True) / self.tau - log_z
            negative = rows @ memory.mT / self.tau - log_z
            return (F.softplus(log_c - positive) + (counted * F.softplus(negative - log_c)).sum(2, keepdim=True))[
                ..., 0
            ]

        return by_rows(nce, anchors, partners, own, columns=len(share))


def _resume(loss: CRD, _: object) -> None:
    """After loading: a checkpoint in which Z is set brings it along."""
    loss.started = bool((loss.log_z != 0).any())
