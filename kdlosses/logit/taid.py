from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
class TAID(nn.Module):
    r"""Cross-entropy with a target that moves from the student itself to the teacher as training proceeds.

    $$ l_i = -\sum_c \pi_{ic} \log q_{ic}, \quad \pi = \mathrm{softmax}\big((1 - t) \, z^s + t \, z^t\big), \;
       q = \mathrm{softmax}(z^s), \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with no gradient through $\pi$. At $t = 0$ the gradient is 0, at $t = 1$ it is that of `kl`. After each step $t$
    moves on by $\alpha \, \sigma(m) (1 - t)$, where $m$ is a moving average of the relative fall of L, and never lags
    behind the straight line from `t_start` to `t_end` over `progress`. It moves in training mode only, and only when
    `progress` has moved since the last call, so that the micro-batches of one optimiser step count as one step. The
    state is in the checkpoint. Where student and teacher agree the value is $H(p)$.

    Args:
        t_start: share of the teacher at the start (paper: 0.2 to 0.4).
        t_end: share of the teacher at the end.
        alpha: size of a step of $t$.
        beta: momentum of $m$.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        progress: share of the training that is done, 0 to 1.
        weight: `(N, *)`, positions to count; an empty selection moves nothing.

    Paper: Shing et al., "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in
    Language Models", ICLR 2025. A mean over the tokens of a mask (here `weight`): factor 1.

    >>> loss = TAID(t_start=0.0)
    >>> s, t = torch.zeros(1, 2, requires_grad=True), torch.tensor([[0.0, 1.0986]])
    >>> loss(s, t, progress=0.0).backward()
    >>> s.grad.tolist()  # the student is its own target
    [[0.0, 0.0]]
    >>> _ = loss(s, t, progress=0.5)
    >>> loss.t.item()
    0.5
    """

    t: Tensor
    momentum: Tensor
    last_loss: Tensor
    last_progress: Tensor

    def __init__(self, t_start: float = 0.4, t_end: float = 1.0, alpha: float = 5e-4, beta: float = 0.99) -> None:
        super().__init__()
        if not 0 <= t_start <= t_end <= 1:
            raise ValueError(f"taid needs 0 <= t_start <= t_end <= 1, got t_start={t_start}, t_end={t_end}")
        self.t_start, self.t_end, self.alpha, self.beta = t_start, t_end, alpha, beta
        self.register_buffer("t", torch.tensor(float(t_start)))
        self.register_buffer("momentum", torch.tensor(0.0))
        self.register_buffer("last_loss", torch.tensor(float("nan")))  # no step yet
        self.register_buffer("last_progress", torch.tensor(float("nan")))

    def forward(self, student: Tensor, teacher: Tensor, progress: float, weight: Tensor | None = None) -> Tensor:
        target = F.softmax(torch.lerp(student.detach(), teacher, self.t.to(student.dtype)), dim=1)
        loss = -weighted_mean((target * F.log_softmax(student, dim=1)).sum(1), weight)
        if self.training:
            counts = torch.ones_like(loss) if weight is None else weight.sum()
            self._step(loss.detach().to(self.t.dtype), progress, (counts > 0) & loss.isfinite())
        return loss

    @torch.no_grad()
    def _step(self, loss: Tensor, progress: float, counts: Tensor) -> None:
        first = self.last_loss.isnan() & counts
        later = (self.last_progress != progress) & ~self.last_loss.isnan() & counts
        fall = (self.last_loss - loss) / (self.last_loss + 1e-15)
        momentum = self.beta * self.momentum + (1 - self.beta) * fall
        line = self.t_start + (self.t_end - self.t_start) * progress
        t = (self.t + self.alpha * momentum.sigmoid() * (1 - self.t)).clamp_min(line).clamp_max(self.t_end)
        self.momentum.copy_(torch.where(later, momentum, self.momentum))
        self.t.copy_(torch.where(later, t, self.t))
        self.last_loss.copy_(torch.where(first | later, loss, self.last_loss))
        self.last_progress.copy_(torch.where(first | later, progress, self.last_progress))
