from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.registry import build, register


@register(over_classes=True)
class Confident(nn.Module):
    r"""Any loss, weighted by the joint confidence of teacher and student; positions of low confidence are left out.

    $$ c_i = \max_c \tfrac12 (p_{ic} + q_{ic}), \qquad
       w'_i = \begin{cases} w_i c_i & c_i \ge \kappa \\ 0 & \text{else} \end{cases} $$

    with p and q the softmax of the two logits; the loss inside is called with the weight $w'$, through which no
    gradient flows. Of inputs gathered from anywhere, those that belong to none of the classes are left out, and so are
    those on which the two are sure of different things.

    Args:
        loss: what `kdlosses.build` takes, a loss between logits with a weight.
        kappa: least c that counts, 0 to 1. With C classes c is at least 1 / C; at 0 nothing is left out.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: `kappa` is not in [0, 1], or the loss takes no weight.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images" (KD3), ICCV
    2023, which selects by the combined prediction. Its formula was not at hand: threshold and weight are our own.
    A mean of $w' l$ over all inputs is this times the mean of $w'$.

    >>> s, sure = torch.zeros(2, 2), torch.tensor([[0.0, 50.0], [0.0, 0.0]])
    >>> Confident(kappa=0.6)(s, sure).item()  # the second position is left out: log(2)
    0.6931...
    """

    def __init__(self, loss: Any = "kl", kappa: float = 0.3) -> None:
        super().__init__()
        if not 0 <= kappa <= 1:
            raise ValueError(f"confident: kappa must be a probability, 0 to 1, got {kappa}")
        self.loss = build(loss)
        if "weight" not in self.loss.needs:
            raise ValueError(f"confident: the loss {self.loss.name!r} has no argument weight; choose one that has")
        self.kappa = kappa

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        sure = confidence(student, teacher, self.kappa)
        return self.loss(student, teacher, weight=sure if weight is None else sure * weight, **context)

    def active(self, **context: Any) -> bool:
        """Whether the loss inside can differ from 0."""
        return self.loss.active(**context)


def confidence(student: Tensor, teacher: Tensor, kappa: float = 0.0) -> Tensor:
    r"""Joint confidence of teacher and student, $c$ `(N, *)` of `Confident`, 0 below `kappa`; without gradient.

    >>> confidence(torch.zeros(1, 2), torch.tensor([[0.0, 50.0]]))
    tensor([0.7500])
    """
    sure = (0.5 * (F.softmax(student.detach(), dim=1) + F.softmax(teacher.detach(), dim=1))).amax(1)
    return torch.where(sure < kappa, 0, sure)  # NaN is not hidden
