from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.contrastive.queue import Queue
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import View, points
from kdlosses.unit import unit


@register(match="positions", categorical=True)
class CrossModalMutual(nn.Module):
    r"""Match each point's similarities to its nearest neighbours by the teacher, each network in its own space.

    With $N_i$ the k instances most similar to point i in the teacher's space, out of the rest of the batch and a queue,

    $$ p_i = \mathrm{softmax}_{j \in N_i}(\cos(f^t_i, f^t_j) / \tau_t), \quad
       q_i = \mathrm{softmax}_{j \in N_i}(\cos(f^s_i, f^s_j) / \tau_s), \qquad
       L = \frac1n \sum_i \mathrm{KL}(p_i \| q_i) $$

    in nats. Where `infonce` has one positive a point, this has k, each with its own share. Nothing compares the two
    spaces, so that they may differ in width and no projection is needed. The teacher is the colder one: its sharper
    distribution is the one to trust. The queue takes in the batch after the loss is computed, in training mode alone.
    Pairs are held in blocks.

    Args:
        student_channels: width of the student.
        teacher_channels: width of the teacher.
        size: places in the queue (paper: 16,384).
        k: neighbours of a point (paper: 8,192); all that there are where there are fewer.
        student_tau: $\tau_s$ (paper: 0.1).
        teacher_tau: $\tau_t$ (paper: 0.05).
        view: what the points are, see `kdlosses.relation.points`; all but `sample`.
        draw: number of points to draw at random in each call; all if not given.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count, and to take into the queue.
        batch: `(N,)`, graph of each node.

    Paper: Mao et al., "CMD: Self-supervised 3D Action Representation Learning with Cross-modal Mutual Distillation",
    ECCV 2022. Factor 1. There each of two networks teaches the other and keys come from moving averages; here one
    teaches, and keys are the features themselves.

    >>> import torch
    >>> loss = CrossModalMutual(student_channels=2, teacher_channels=3, size=4, student_tau=0.05)
    >>> wide = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    >>> loss(wide[:, :2], wide).item()  # the same angles in another space
    0.0
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        size: int = 16384,
        k: int = 8192,
        student_tau: float = 0.1,
        teacher_tau: float = 0.05,
        view: View = "batch",
        draw: int | None = None,
    ) -> None:
        super().__init__()
        if draw is not None and draw < 3:
            raise ValueError(f"cross_modal_mutual: draw must be at least 3 for a point to have neighbours, got {draw}")
        if view == "sample":
            raise ValueError("cross_modal_mutual: one queue serves the whole batch, so view cannot be 'sample'")
        self.student_queue, self.teacher_queue = Queue(size, student_channels), Queue(size, teacher_channels)
        self.k, self.student_tau, self.teacher_tau = k, student_tau, teacher_tau
        self.view, self.draw = view, draw

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        student, teacher, weight = points(student, teacher, weight, batch, self.view, self.draw)
        student, teacher = unit(student, dim=2), unit(teacher, dim=2)
        kept_s, _ = self.student_queue.with_batch(student[0], weight[0])
        kept_t, log_w = self.teacher_queue.with_batch(teacher[0], weight[0])
        keys_s, keys_t = kept_s.mT, kept_t.mT
        places = torch.arange(len(log_w), device=log_w.device)
        own = places[-student.shape[1] :].unsqueeze(0)

        def divergence(rows_s: Tensor, rows_t: Tensor, own: Tensor) -> Tensor:
            counts = log_w.where(places != own.unsqueeze(2), torch.finfo(log_w.dtype).min / 4)
            near, who = (rows_t @ keys_t / self.teacher_tau + counts).topk(min(self.k, len(log_w)), dim=2)
            log_p = near.log_softmax(2)
            log_q = (rows_s @ keys_s / self.student_tau + counts).gather(2, who).log_softmax(2)
            return (log_p.exp() * (log_p - log_q)).sum(2)

        value = weighted_mean(by_rows(divergence, student, teacher, own, columns=len(log_w)), weight)
        if self.training:
            self.student_queue.push(student[0].detach(), weight[0])
            self.teacher_queue.push(teacher[0], weight[0])
        return value
