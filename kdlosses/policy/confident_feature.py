from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdlosses.policy.confident import confidence
from kdlosses.registry import build, register
from kdlosses.resized import resized


@register(match="inner", middle=True)
class ConfidentFeature(nn.Module):
    r"""Any loss between features, weighted by how sure teacher and student are together of the class.

    $$ c_i = \max_c \tfrac12 (p_{ic} + q_{ic}), \qquad
       w'_i = \begin{cases} w_i c_i & c_i \ge \kappa \\ 0 & \text{else} \end{cases} $$

    with p and q the softmax of the two logits, as in `Confident`, whose loss is between the logits themselves.

    Args:
        loss: what `kdlosses.build` takes, a loss between features with a weight.
        kappa: least c that counts, 0 to 1; at 0 nothing is left out.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        student_logits: `(N, C, *)`, the student's, of which no gradient is taken; of a map at any size.
        teacher_logits: `(N, C, *)`, the teacher's, likewise.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: `kappa` is not in [0, 1], the loss takes no weight, or the logits have not the same two classes or
            more.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images" (KD3), ICCV
    2023, which aligns weighted features. Its formula was not at hand: threshold and weight are our own.

    >>> import torch
    >>> s, t, unsure = torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 2)
    >>> sure = torch.tensor([[0.0, 50.0], [0.0, 0.0]])
    >>> ConfidentFeature(kappa=0.6)(s, t * torch.tensor([[2.0], [1.0]]), unsure, sure).item()  # the first alone
    4.0
    """

    def __init__(self, loss: Any = "mse", kappa: float = 0.3) -> None:
        super().__init__()
        if not 0 <= kappa <= 1:
            raise ValueError(f"confident_feature: kappa must be a probability, 0 to 1, got {kappa}")
        self.loss = build(loss)
        if "weight" not in self.loss.needs:
            raise ValueError(f"confident_feature: the loss {self.loss.name!r} has no argument weight")
        self.kappa = kappa

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        student_logits: Tensor,
        teacher_logits: Tensor,
        weight: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        if student_logits.shape[1] != teacher_logits.shape[1] or student_logits.shape[1] < 2:
            raise ValueError(
                "confident_feature: it compares two classes or more, the same on both sides, got student_logits "
                f"{tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)}"
            )
        own = resized("confident_feature", "student_logits", student_logits, student)
        other = resized("confident_feature", "teacher_logits", teacher_logits, student)
        sure = confidence(own, other, self.kappa).to(student.dtype)
        return self.loss(student, teacher, weight=sure if weight is None else sure * weight, **context)

    def active(self, **context: Any) -> bool:
        """Whether the loss inside can differ from 0."""
        return self.loss.active(**context)
