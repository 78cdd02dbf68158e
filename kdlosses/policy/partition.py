from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlosses.experts import experts
from kdlosses.reduce import labelled
from kdlosses.registry import build, register


@register(match="positions", over_classes=True)
class Partition(nn.Module):
    r"""Any loss on logits towards the teacher where it is better, else towards the frozen initial student.

    $$ L = \ell(s, \tilde z), \quad \tilde z_i = \begin{cases}
         z^{t}_i & p^{t}_i > p^{0}_i \\ z^{0}_i & \text{else} \end{cases} $$

    with 0 the student as it was before, frozen, and $p_i$ the probability of the label, or the greatest of all classes.
    So the student keeps what it knew. Ties go to the start. Of several teachers the surest counts. A teacher that is
    too sure of itself wins too often by its greatest probability: calibrate it.

    Args:
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        by: compare the probability of the `label`, where there is one, or the `confidence`: the greatest.
        ignore_index: label that marks a position without one, like any negative label.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, (E + 1) C, *)`: those of E teachers and, last, those of the start, along axis 1.
        labels: `(N, *)`, class indices; needed with `by="label"`.
        context: what the loss inside names.

    Raises:
        ValueError: `by` is no such rule.
        TypeError: `by="label"` and no labels came.

    Paper: Roth et al., "Fantastic Gains and Where to Find Them: On the Existence and Prospect of General Knowledge
    Transfer between Any Pretrained Model", ICLR 2024. Factor 1.

    >>> start, teacher = torch.tensor([[0.0, 1.0], [0.0, 9.0]]), torch.tensor([[5.0, 0.0], [5.0, 0.0]])
    >>> best = torch.stack([teacher[0], start[1]])
    >>> build("partition")(best, torch.cat([teacher, start], dim=1)).item()
    0.0
    """

    def __init__(
        self, loss: Any = "kl", by: Literal["confidence", "label"] = "confidence", ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.loss = build(loss)
        self.by, self.ignore_index = by, ignore_index

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None, **context: Any) -> Tensor:
        each = experts(teacher, student.shape[1], "partition")
        p = each.softmax(2)
        sure = p.amax(2)
        if self.by == "label":
            if labels is None:
                raise TypeError("partition: by='label' requires labels; pass labels=...")
            index, known = labelled(labels, None, self.ignore_index, student.shape[1])
            right = p.gather(2, index[:, None, None].expand(-1, p.shape[1], 1, *index.shape[1:])).squeeze(2)
            sure = torch.where(known.unsqueeze(1), right, sure)
        target, best = each[:, -1], sure[:, -1]
        for place in range(each.shape[1] - 1):
            better = sure[:, place] > best
            target = torch.where(better.unsqueeze(1), each[:, place], target)
            best = torch.where(better, sure[:, place], best)
        return self.loss(student, target, labels=labels, **context)
