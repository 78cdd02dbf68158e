from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.linalg import vector_norm

from kdlosses.class_means import ClassMeans
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register(name="nd")
class ND(nn.Module):
    r"""Norm and direction: match the norm of the teacher's features and the direction of the teacher's class means.

    With $e_c$ the mean of the teacher's features of class c, scaled to length 1, and $y$ the label,

    $$ l_i = 1 - \frac{\langle f^s_i, e_{y_i} \rangle}{\max(\|f^s_i\|, \|f^t_i\|)} \in [0, 2], \qquad
       L = \sum_i w_i l_i / \sum_i w_i. $$

    It is 0 where the student points to the mean and is at least as long as the teacher; a longer one changes nothing.
    It is not 0 for a student equal to the teacher, unless that lies on the mean of its class.

    Args:
        classes: number of classes.
        channels: C.
        means: `(classes, C)`, means of the teacher's features over the training set. If not given they are gathered
            while training: the mean of all that has been seen, which after an epoch is that of the training set.
        ignore_index: label that marks a position to leave out.

    `forward`:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        weight: `(N, *)`, positions to count.

    Paper: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction", 2023. Factor 1;
    weight 2 on CIFAR, 1 on ImageNet, beside cross-entropy and `kl`.

    >>> import torch
    >>> loss = ND(classes=1, channels=2, means=[[0.0, 9.0]])
    >>> loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]]), labels=torch.tensor([0])).item()  # half as long
    0.5
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        means: Tensor | Sequence[Sequence[float]] | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.teacher = ClassMeans(classes, channels)
        self.fixed = means is not None
        self.ignore_index = ignore_index
        if means is not None:
            try:
                table = torch.as_tensor(means, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(f"nd: means is a table of numbers, {(classes, channels)}, got {means!r}") from error
            if table.shape != (classes, channels) or not table.isfinite().all():
                raise ValueError(f"nd: means must be finite, of shape {(classes, channels)}, got {tuple(table.shape)}")
            self.teacher.mean.copy_(table)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        labels, weight = labelled(labels, weight, self.ignore_index, len(self.teacher.seen))
        if self.training and not self.fixed:
            self.teacher.update(teacher.movedim(1, -1).flatten(0, -2), labels.flatten(), weight.flatten())
        longest = torch.maximum(vector_norm(student, dim=1), vector_norm(teacher, dim=1)).clamp_min(1e-12)
        direction = F.normalize(self.teacher.mean, dim=1)[labels].movedim(-1, 1)
        return weighted_mean(1 - (student * direction).sum(1) / longest, weight)
