from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.experts import experts
from kdlosses.policy.balance import follow
from kdlosses.reduce import weighted_mean
from kdlosses.registry import build, register


@register(name="mtard", match="positions", over_classes=True)
class MTARD(nn.Module):
    r"""A loss towards each of several teachers, with temperatures and weights that balance entropy and pace.

    $$ L = \sum_e a_e \, \ell(s_e, z^{t_e} / \tau_e), \quad
       \tau_e \leftarrow \mathrm{clip}\big(\tau_e - r_\tau \, \mathrm{sign}(H_e / H_{\ne e} - 1), 1, 10\big) $$

    with the weights a of `balance`, $H_e$ the mean entropy of $\mathrm{softmax}(z^{t_e} / \tau_e)$ and $H_{\ne e}$ the
    mean of the others (own for more than two). A teacher less sure than the others is made surer. It is the teacher's
    temperature alone, and no $\tau^2$. Weights, first values and temperatures are state, moved in training mode after
    each call that counts a position, and are in the checkpoint. With one teacher it is the loss inside.

    The paper teaches the predictions on attacked inputs by a robust teacher, and those on clean inputs by a natural
    one: hand both in, see the graph recipe of this name.

    Args:
        teachers: E.
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        rate: of the weights, see `balance`.
        tau_rate: $r_\tau$.

    `forward`:
        student: logits `(N, C, *)` for all teachers, or `(N, E C, *)`: for each teacher its own, say on other inputs.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: the teacher's channels are not those of E teachers, or the student's not those of one or of E.

    Paper: Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Multi-Teacher Adversarial Distillation", 2024.
    The authors' mean over all elements: factor 1 / C. The reference value of r is 0.025, times 0.1 at epochs 215, 260
    and 285 of 300; here it stays.

    >>> loss = build(dict(type="mtard", teachers=2))
    >>> loss(torch.zeros(4, 3), torch.zeros(4, 6)).item()
    0.0
    """

    weights: Tensor
    first: Tensor
    tau: Tensor

    def __init__(self, teachers: int = 1, loss: Any = "kl", rate: float = 0.025, tau_rate: float = 0.001) -> None:
        super().__init__()
        if teachers < 1:
            raise ValueError(f"mtard: teachers must be the number of teachers, got {teachers}")
        self.loss = build(loss)
        self.rate, self.tau_rate = rate, tau_rate
        self.register_buffer("weights", torch.full((teachers,), 1 / teachers))
        self.register_buffer("first", torch.full((teachers,), torch.nan))  # no call yet
        self.register_buffer("tau", torch.ones(teachers))

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        count = len(self.tau)
        if teacher.shape[1] % count:
            raise ValueError(f"mtard: the teacher's {teacher.shape[1]} channels must be a multiple of {count} teachers")
        classes = teacher.shape[1] // count
        if student.shape[1] not in (classes, count * classes):
            raise ValueError(
                f"mtard: the student has {student.shape[1]} channels; expected {classes}, or {count * classes} with "
                f"logits of its own for each of {count} teachers"
            )
        each, own = experts(teacher, classes, "mtard"), experts(student, classes, "mtard")
        own = own.expand(-1, count, *own.shape[2:])
        told = each / self.tau.to(each.dtype).reshape(1, -1, *[1] * (each.ndim - 2))
        pairs = zip(own.unbind(1), told.unbind(1))
        values = torch.stack([self.loss(s, t, weight=weight, **context) for s, t in pairs])
        total = (self.weights.to(values.dtype, copy=True) * values).sum()  # a copy: it moves before the backward
        if self.training:
            counts = (torch.ones_like(total) if weight is None else weight.sum()) > 0
            follow(self.weights, self.first, values.detach(), self.rate, counts)
            self._equally_sure(told, weight, counts)
        return total

    @torch.no_grad()
    def _equally_sure(self, told: Tensor, weight: Tensor | None, counts: Tensor) -> None:
        log_p = told.log_softmax(2)
        spread = -(log_p.exp() * log_p).sum(2)
        entropy = torch.stack([weighted_mean(each, weight) for each in spread.unbind(1)])
        others = (entropy.sum() - entropy) / max(1, len(entropy) - 1) if len(entropy) > 1 else entropy
        tau = (self.tau - self.tau_rate * (entropy - others).sign().to(self.tau.dtype)).clamp(1, 10)
        self.tau.copy_(torch.where(counts & entropy.isfinite(), tau, self.tau))
