"""What `densekd.fit` returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kdlosses.text_table import table


@dataclass
class Outcome:
    """One trained model.

    Attributes:
        model: with the weights of the epoch that was best on the validation data.
        metrics: see `Result`.
        epoch: that epoch, from 1.
        seconds: wall-clock time of the training, 0 for a teacher that was trained before.
    """

    model: nn.Module
    metrics: dict[str, float]
    epoch: int = 0
    seconds: float = 0.0


@dataclass
class Result:
    """What `fit` returns; `print(result)` shows a table.

    Attributes:
        student: the trained student.
        metrics: by role (`teacher`, `control`, `student`), then by name: `val <metric>` on the validation data, by
            which the epoch was chosen, and `<metric>` on the test data, if there are any. A teacher with `convert`,
            which sees other data, is not measured, nor is one that yields no logits of the student's classes.
        outcomes: by role, with models.
    """

    student: nn.Module
    metrics: dict[str, dict[str, float]]
    outcomes: dict[str, Outcome]

    def __repr__(self) -> str:
        return table(self.metrics)
