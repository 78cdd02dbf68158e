from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.experts import experts, mixture
from kdlosses.reduce import weighted_mean
from kdlosses.registry import build, register


@register(match="positions", over_classes=True)
class Adversary(nn.Module):
    r"""Any loss plus a discriminator between the student's predictions and the teachers'.

    $$ L = \ell(s, t) + \gamma \, \frac{\sum_i w_i d_i}{2 \sum_i w_i}, \quad
       d_i = \log(1 + e^{-D(\bar p_i)}) + \log(1 + e^{D(q_i)}), $$

    $\bar p$ the mean prediction of the teachers, q the student's, D two hidden layers on each position alone. D goes
    down the gradient of d. The student's way depends on `direction`: `against` turns its gradient round, so that it
    learns to fool D, which is the usual objective; `with` leaves it, so that the student makes the task of D
    easier. `with` is what the authors' code does, which neither turns nor stops the gradient.

    Own: D reads probabilities, ends in one logit without the ReLU of the authors' code, which bounds it from below, and
    its hidden layers are no narrower than 16 and 8.

    Args:
        classes: C.
        loss: what `kdlosses.build` takes.
        strength: $\gamma$.
        direction: see above.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: no such direction.

    Paper: Shen and Savvides, "MEAL V2: Boosting Vanilla ResNet-50 to 80%+ Top-1 Accuracy on ImageNet without Tricks",
    2020, there around `meal` and with hidden layers of C / 8 and C / 64. Factor 1.

    >>> import torch
    >>> loss, t = build(dict(type="adversary", classes=3)), torch.zeros(2, 3)
    >>> s = torch.zeros(2, 3, requires_grad=True)
    >>> round(loss(s, t, weight=torch.ones(2)).item() - loss.loss.loss(s, t).item(), 1)  # undecided: log(2)
    0.7
    """

    def __init__(
        self,
        classes: int,
        loss: Any = "meal",
        strength: float = 1.0,
        direction: Literal["against", "with"] = "against",
    ) -> None:
        super().__init__()
        self.loss = build(loss)
        self.strength, self.direction = strength, direction
        wide, narrow = max(classes // 8, 16), max(classes // 64, 8)
        self.discriminator = nn.Sequential(
            nn.Linear(classes, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(), nn.Linear(narrow, 1)
        )

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        if student.shape[1] != self.discriminator[0].in_features:
            built = self.discriminator[0].in_features
            raise ValueError(f"adversary: built for {built} classes, got student {tuple(student.shape)}")
        q = student.softmax(1)
        if self.direction == "against":
            q = 2 * q.detach() - q  # the same value, the gradient turned round
        p = mixture(experts(teacher, student.shape[1], "adversary")).exp()
        told = F.softplus(-self._judge(p)) + F.softplus(self._judge(q))
        return self.loss(student, teacher, weight=weight, **context) + self.strength * weighted_mean(told / 2, weight)

    def _judge(self, probabilities: Tensor) -> Tensor:
        return self.discriminator(probabilities.movedim(1, -1)).squeeze(-1)
