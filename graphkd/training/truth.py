"""The ground truth of nodes as a source of a term."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.data.targets import known
from graphkd.training.lesson import Lesson
from kdlosses.registry import Loss
from kdlosses.truth import TRUTH, check_certain, logits_of, one_hot, reads_logits, smoothed


class Truth:
    """What a teacher would say of the labelled nodes if it were always right.

    Args:
        loss: of the entry; one that takes a softmax or a sigmoid gets logits, another the targets themselves.
        lesson: with the labels.
        classes: width of the student's logits.
        smoothing: share of all classes alike in the targets.

    Raises:
        ValueError: the lesson has no labels.
    """

    def __init__(self, loss: Loss, lesson: Lesson, classes: int, smoothing: float) -> None:
        if not len(lesson.labelled):
            raise ValueError(f"distills entry {loss.name!r}: source {TRUTH!r} needs labels, and no node has any")
        self.as_logits, self.task = reads_logits(loss), lesson.task.name
        self.classes, self.smoothing = classes, smoothing
        self.some = lesson.labels[lesson.labelled[torch.arange(8) % len(lesson.labelled)]]

    def __call__(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The truth `(n, C)` of labels as `Lesson.labels` has them, and for which nodes there is any, `(n,)` bool."""
        told = known(labels)
        if self.task == "regression":
            return labels.nan_to_num().float(), told
        binary = self.task == "multi-label"
        targets = labels.clamp_min(0).float() if binary else one_hot(labels, self.classes)
        if self.as_logits:
            return logits_of(targets, self.smoothing, binary), told
        return smoothed(targets, self.smoothing, binary), told

    def check(self, loss: Loss, student: Tensor, context: dict) -> None:
        """Raise `ValueError` if a loss has no finite value for labels that are certain; of 8 nodes."""
        if self.as_logits and not self.smoothing:
            check_certain(loss, student, self(self.some)[0], context)
