from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.class_means import ClassMeans
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import build, register
from kdlosses.rules.fusion_ratio import FusionRatio


@register(over_classes=True)
class TGeo(nn.Module):
    r"""Labels and teacher in a ratio of its own at each position, from the geometry of student, teacher and truth.

    $$ L = \frac{1}{\sum_i w_i} \sum_i w_i \big( (1 - a_i) \, \mathrm{CE}(s_i, y_i) + a_i \, \ell_i \big), \qquad
       a_i = \mathrm{FusionRatio}(s_i, t_i, y_i, \bar t_{y_i}) $$

    with $\bar t_c$ the teacher's mean prediction for class c over all positions seen so far, by which outliers are
    known. It holds the loss of the labels: the task's own gets the weight 0. Where there is no label, $a_i$ is the mean
    of those that there are, 1 if there are none, and the first term is left out.

    The ratio is not learned from L, which would choose the smaller of two losses: no gradient of L reaches its network.
    On pixels the policy `tgeo` of `densekd.policies` learns it on images that are held out; without, it stays as it
    starts, near one half everywhere. The graph recipe `tgeo` does the same on nodes.

    Args:
        classes: C.
        loss: $\ell$, what `kdlosses.build` takes: between logits, with a weight.
        ignore_index: label that marks a position without one, like any negative label.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: the loss takes no weight, or the logits are of other classes.

    Paper: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation", ICLR 2024,
    whose samples are images; the mean over the data so far, in place of one taken beforehand, is ours.

    >>> loss = build("tgeo", classes=2)
    >>> s, t, y = torch.zeros(1, 2), torch.tensor([[0.0, 9.0]]), torch.tensor([1])
    >>> loss(s, t, labels=y).item() > 0
    True
    """

    def __init__(self, classes: int, loss: Any = "kl", ignore_index: int = 255) -> None:
        super().__init__()
        self.loss = build(loss)
        if "weight" not in self.loss.needs:
            raise ValueError(f"tgeo: the loss {self.loss.name!r} has no argument weight; choose one that has")
        self.ratio = FusionRatio(classes).requires_grad_(False)
        self.means = ClassMeans(classes, classes)
        self.ignore_index = ignore_index

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None, **context: Any
    ) -> Tensor:
        if student.shape[1] != len(self.means.seen):
            raise ValueError(f"tgeo: built for {len(self.means.seen)} classes, the logits have {student.shape[1]}")
        if self.training:
            rows = teacher.softmax(1).movedim(1, -1).flatten(0, -2)
            counted = None if weight is None else weight.flatten()
            safe, known = labelled(labels.flatten(), counted, self.ignore_index, teacher.shape[1])
            self.means.update(rows.to(self.means.mean.dtype), safe, known)
        with torch.no_grad():
            ratio = self.ratio_of(student, teacher, labels, weight)
        return self.fused(student, teacher, labels, ratio, weight, **context)

    def ratio_of(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """The ratio $a$ `(N, *)`; the gradient of its network flows."""
        safe, known = labelled(labels, weight, self.ignore_index, student.shape[1])
        kind = self.means.mean.dtype
        found = self.ratio(student.to(kind), teacher.to(kind), safe, self.means.mean)
        found = found.where(known > 0, weighted_mean(found, known).where((known > 0).any(), 1.0))
        return found.to(student.dtype)

    def fused(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        ratio: Tensor,
        weight: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """The loss by a given ratio `(N, *)`."""
        every = torch.ones_like(ratio) if weight is None else weight.to(ratio.dtype)
        safe, known = labelled(labels, None, self.ignore_index, student.shape[1])
        hard = (1 - ratio) * F.cross_entropy(student, safe, reduction="none") * known
        soft = self.loss(student, teacher, weight=every * ratio, labels=labels, **context)
        return weighted_mean(hard, every) + weighted_mean(ratio, every) * soft
