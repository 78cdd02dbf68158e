from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.contrastive.queue import Queue
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import View, points
from kdlosses.unit import unit


@register(categorical=True)
class COMODO(nn.Module):
    r"""COMODO: match each point's similarities to a queue of teacher features, without labels or negatives.

    With Q the queue and the teacher's features of the batch, all of length 1,

    $$ a_i = \mathrm{softmax}_k(\cos(f^t_i, Q_k) / \tau_t), \quad b_i = \mathrm{softmax}_k(\cos(f^s_i, Q_k) / \tau_s),
       \qquad L = - \frac1n \sum_i \sum_k a_{ik} \log b_{ik} $$

    in nats. Its least value, at b = a, is the entropy of a; with the default temperatures a student equal to the
    teacher is not there, for the teacher is the hotter one. As $\tau_t$ goes to 0 it becomes `infonce`. The queue takes
    in the batch after the loss is computed, in training mode alone. Pairs are held in blocks.

    Args:
        channels: C; a student of another width needs a projection before the loss.
        size: places in the queue.
        student_tau: $\tau_s$.
        teacher_tau: $\tau_t$.
        view: what the points are, see `kdlosses.relation.points`; all but `sample`.
        draw: number of points to draw at random in each call; all if not given.

    `forward`:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        weight: `(N, *)`, positions to count, and to take into the queue.
        batch: `(N,)`, graph of each node.

    Paper: Chen et al., "COMODO: Cross-Modal Video-to-IMU Distillation for Efficient Egocentric Human Activity
    Recognition", 2025. Factor 1. Features are scaled to length 1 here, which the authors' code leaves to the caller,
    and the queue is a buffer.

    >>> import torch
    >>> loss = COMODO(channels=2, size=4)
    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> _ = loss(features, features)
    >>> loss.queue.weight.tolist()  # two of four places are taken
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(
        self,
        channels: int,
        size: int = 16384,
        student_tau: float = 0.05,
        teacher_tau: float = 0.1,
        view: View = "batch",
        draw: int | None = None,
    ) -> None:
        super().__init__()
        if view == "sample":
            raise ValueError("comodo: one queue serves the whole batch, so view cannot be 'sample'")
        self.queue = Queue(size, channels)
        self.student_tau, self.teacher_tau = student_tau, teacher_tau
        self.view, self.draw = view, draw

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        student, teacher, weight = points(student, teacher, weight, batch, self.view, self.draw)
        student, teacher = unit(student, dim=2), unit(teacher, dim=2)
        kept, log_w = self.queue.with_batch(teacher[0], weight[0])
        keys, log_w = kept.mT.unsqueeze(0), log_w[None, None]

        def cross_entropy(rows_s: Tensor, rows_t: Tensor) -> Tensor:
            near = rows_s / self.student_tau @ keys
            log_b = near - (near + log_w).logsumexp(2, keepdim=True)  # of one copy, where a key counts as several
            return -(torch.baddbmm(log_w, rows_t / self.teacher_tau, keys).softmax(2) * log_b).sum(2)

        value = weighted_mean(by_rows(cross_entropy, student, teacher, columns=keys.shape[2]), weight)
        if self.training:
            self.queue.push(teacher[0], weight[0])
        return value
