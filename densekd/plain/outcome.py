"""What `densekd.fit` returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from densekd.edges import WIDTH
from densekd.policies.run import Policy
from kdlosses.text_table import table


@dataclass
class Outcome:
    """One trained model.

    Attributes:
        model: with the weights of the epoch that was best on the validation data.
        metrics: see `Result`.
        epoch: that epoch, from 1.
        seconds: wall-clock time of the training, 0 for a teacher that was trained before.
        policies: of the run, as they are after it.
    """

    model: nn.Module
    metrics: dict[str, float]
    epoch: int = 0
    seconds: float = 0.0
    policies: list[Policy] = field(default_factory=list)


@dataclass
class Result:
    """What `fit` returns; `print(result)` shows a table.

    Attributes:
        student: the trained student.
        metrics: by role (`teacher`, `control`, `student`), then by name: `val <metric>` on the validation data, by the
            first of which the epoch was chosen, and `<metric>` on the test data, if there are any. `bIoU` is the mean
            IoU of the pixels within three of an edge of the labels. A teacher with `convert`, which sees other data, is
            not measured, nor is one that yields no logits of the student's classes.
        outcomes: by role, with models.
    """

    student: nn.Module
    metrics: dict[str, dict[str, float]]
    outcomes: dict[str, Outcome]

    def __repr__(self) -> str:
        near = any("bIoU" in name for found in self.metrics.values() for name in found)
        told = f"\n\nbIoU: mean IoU of the pixels within {WIDTH} of an edge of the labels." if near else ""
        return table(self.metrics) + told
