"""Masks and boxes that a head tells for each class: those of the class that a box is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densekd.taps.roi_heads import kind_of, place_of


class OfClass:
    r"""What heads of two detectors tell of the objects of a student: the mask or the box of the object's own class.

    Nothing is asked of the other classes in training, nor of a box in the background: their numbers mean nothing. A
    head that tells one mask or box for all classes tells that one. A box is told by offsets d from a proposal, which
    each head scales by its own $\mu$ and $\sigma$; the teacher's are brought to the student's scale:

    $$ \frac{\sigma^t d^t + \mu^t - \mu^s}{\sigma^s}. $$

    Args:
        student: a detector, and its tap, which `kind_of` calls 'masks' or 'boxes'.
        teachers: detectors, each with its tap of that kind.
        class_map: for each of the student's classes the teacher's; the same if not given.

    `__call__`:
        student: `(N, K, h, w)` or `(N, 4 K)`; K is 1 where there is one for all classes.
        teachers: of each the same, with classes of its own.
        labels: class of each row `(N,)`; a row without a class is left out.

    Returns:
        Of both sides `(n, 1, h, w)` or `(n, 4)`.

    Raises:
        ValueError: classes differ in number and `class_map` is missing or wrong; a tap of a teacher yields something
            else; boxes are coded in another way.
    """

    def __init__(
        self, student: tuple[Any, str], teachers: Sequence[tuple[Any, str]], class_map: Sequence[int] | None = None
    ) -> None:
        kind = kind_of(*student)
        self._boxes = kind == "boxes"
        self._flag = "reg_class_agnostic" if self._boxes else "class_agnostic"
        mine, *theirs = (place_of(tap).head(model) for model, tap in (student, *teachers))  # type: ignore[union-attr]
        for (model, tap), head in zip(teachers, theirs):
            if kind_of(model, tap) != kind:
                raise ValueError(f"tap {student[1]!r} yields {kind}, the teacher's {tap!r} does not: tap its {kind}")
            self._check_classes(mine, head, class_map)
        self.classes: int = mine.num_classes
        self._class_map = None if class_map is None else torch.tensor(list(class_map))
        self._mine, self._theirs = self._several(mine), [self._several(head) for head in theirs]
        self._scales = [_scale(head, mine) for head in theirs] if self._boxes else []

    def _several(self, head: Any) -> bool:
        return not getattr(head, self._flag, False)

    def _check_classes(self, mine: Any, its: Any, class_map: Sequence[int] | None) -> None:
        if class_map is None:
            if self._several(its) and mine.num_classes != its.num_classes:
                raise ValueError(
                    f"the student has {mine.num_classes} classes, the teacher {its.num_classes}: give class_map=[...], "
                    "the teacher's class for each"
                )
        elif len(class_map) != mine.num_classes or max(class_map) >= its.num_classes:
            raise ValueError(
                f"class_map must hold a class from 0 to {its.num_classes - 1} for each of the student's "
                f"{mine.num_classes}, without background, got {list(class_map)}"
            )

    def __call__(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        rows = ((labels >= 0) & (labels < self.classes)).nonzero().squeeze(1)
        own = labels[rows]
        its = own if self._class_map is None else self._class_map.to(own.device)[own]
        found = [self._chosen(level, rows, its, several) for level, several in zip(teachers, self._theirs)]
        if self._boxes:
            found = [each * factor.to(each) + shift.to(each) for each, (factor, shift) in zip(found, self._scales)]
        return self._chosen(student, rows, own, self._mine), found

    def _chosen(self, level: Tensor, rows: Tensor, classes: Tensor, several: bool) -> Tensor:
        each = level.unflatten(1, (-1, 4)) if self._boxes else level
        found = each[rows, classes if several else torch.zeros_like(classes)]
        return found if self._boxes else found.unsqueeze(1)


def _scale(head: Any, other: Any) -> tuple[Tensor, Tensor]:
    """Factor and shift that take the offsets of a head to the scale of another."""
    for each in (head.bbox_coder, other.bbox_coder):
        if type(each).__name__ != "DeltaXYWHBBoxCoder":
            raise ValueError(
                f"boxes of a {type(each).__name__} have other offsets: both heads need a DeltaXYWHBBoxCoder"
            )
    (its_mean, its_std), (mean, std) = (
        (torch.tensor(each.bbox_coder.means), torch.tensor(each.bbox_coder.stds)) for each in (head, other)
    )
    return its_std / std, (its_mean - mean) / std
