"""The ground truth as a source of a term: what a teacher's tap would yield if it were always right."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from densekd.context import LossInputs
from kdlosses.registry import Loss
from kdlosses.truth import TRUTH, check_certain, check_loss, logits_of, one_hot, reads_logits, smoothed

SILENT = 10
"""Batches without a label, from the first on, after which there is a warning."""


class Truth:
    """The ground truth of the batches, at the positions of a student's tap.

    Args:
        entry: name of the entry, for messages.
        tap: of the student.
        loss: of the entry; one that takes a softmax or a sigmoid gets logits, another the targets themselves.
        smoothing: share of all classes alike in the targets.

    Raises:
        ValueError: the loss cannot learn from the truth, see `kdlosses.truth.check_loss`.
    """

    def __init__(self, entry: str, tap: str, loss: Loss, smoothing: float) -> None:
        try:
            check_loss(loss)
        except ValueError as error:
            raise ValueError(f"distills entry {entry!r}: {error}") from error
        self.entry, self.tap, self.smoothing = entry, tap, smoothing
        self.as_logits = reads_logits(loss)
        self.binary = False
        self.silent: int | None = 0  # batches without a label so far, None once there was one or a warning

    def blank(self, student: Sequence[Tensor], classes: int | None, binary: bool) -> list[Tensor]:
        """Check the levels of the student's tap, and return the truth of labels that are all of the first class.

        Args:
            student: levels of a probe.
            classes: of the student's head, None where that is unknown.
            binary: whether each channel is the logit of a sigmoid.

        Raises:
            ValueError: the tap yields something else than a value for each class.
        """
        self.binary = binary
        for level in student:
            if level.ndim not in (2, 4):
                raise ValueError(f"source {TRUTH!r} is of maps (B, C, h, w) or rows (B, C), not {tuple(level.shape)}")
            if self.tap.startswith(("backbone", "neck")) or self.tap.endswith(":in"):
                raise ValueError(f"source {TRUTH!r} has a value for each class, but tap {self.tap!r} yields features")
            if self.tap.startswith(("bbox_head", "roi_head", "rpn_head")):
                raise ValueError(
                    f"source {TRUTH!r} is of label maps, tap {self.tap!r} of boxes: a detector's own losses teach it "
                    "their truth; losses that read labels get those that its head assigns"
                )
            if classes is None and self.as_logits:
                raise ValueError(
                    f"source {TRUTH!r} has a value for each class, and how many there are is not known: give "
                    "densekd.Distillation(..., classes=...)"
                )
            if classes not in (None, level.shape[1]) and not (binary and level.shape[1] == 1):
                raise ValueError(
                    f"source {TRUTH!r} has a value for each of {classes} classes, but tap {self.tap!r} yields "
                    f"{level.shape[1]} channels: tap the logits"
                )
        return [self._of(level, torch.zeros_like(level[:, 0]).long(), -1) for level in student]

    def __call__(self, student: Sequence[Tensor], context: LossInputs) -> list[Tensor]:
        """The truth of each level of the student's tap.

        Raises:
            ValueError: the batch has no labels, or its targets are numbers of another shape, or not for this loss.
        """
        found = []
        for level in student:
            size = tuple(level.shape[2:])
            targets = context.targets(size)
            if targets is not None:
                found.append(self._numbers(targets, level))
                continue
            labels = context.labels(size)  # type: ignore[arg-type]
            if labels is None:
                raise ValueError(
                    f"distills entry {self.entry!r}: source {TRUTH!r} needs {context.LABELS}, which this batch does "
                    "not have: give labels, or another source"
                )
            found.append(self._of(level, labels, context.ignore_index))
        return found

    def watch(self, told: Tensor) -> None:
        """Warn where the first batches have no label at any position, `(B, *)` bool: the term is 0 there, for ever."""
        if self.silent is None:
            return
        self.silent = None if bool(told.any()) else self.silent + 1
        if self.silent == SILENT:
            self.silent = None
            warnings.warn(
                f"distills entry {self.entry!r}: the first {SILENT} batches have no label that counts, so that source "
                f"{TRUTH!r} teaches nothing: see ignore_index, and the labels of the data",
                stacklevel=2,
            )

    def _of(self, level: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        single = self.binary and level.shape[1] == 1
        hot = one_hot(labels, 2 if single else level.shape[1], ignore_index)
        targets = hot[:, 1:] if single else hot
        if self.as_logits:
            return logits_of(targets, self.smoothing, self.binary)
        return smoothed(targets, self.smoothing, self.binary)

    def _numbers(self, targets: Tensor, level: Tensor) -> Tensor:
        if self.as_logits or self.smoothing or targets.shape != level.shape:
            raise ValueError(
                f"distills entry {self.entry!r}: the targets of this batch are numbers {tuple(targets.shape)}; tap "
                f"{self.tap!r} must yield as many, not {tuple(level.shape)}, without smoothing, for a loss that takes "
                "no softmax of them, such as 'mse' or 'assistive'"
            )
        return targets.nan_to_num()

    def check_certain(self, loss: Loss, learner: Tensor, guide: Tensor) -> None:
        """Raise `ValueError` if the loss has no finite value for labels that are certain."""
        zeros = torch.zeros_like(learner[:, 0]).long()
        made = dict(labels=zeros, label_map=zeros, progress=0.5, epoch=0)
        if self.as_logits and not self.smoothing and {*made}.issuperset(loss.requires):
            told = {name: made[name] for name in loss.requires}
            check_certain(loss.to(learner.device), torch.randn_like(learner), guide, told)
