"""A student that learns from the unlabelled rows that it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.sparse.rows import Matrix, rows
from graphkd.students.classifier import StudentClassifier
from kdlosses.adaptation import RobustMeanTeacher, prototypes

_ROWS = 65_536


class Adapting:
    """A trained student that adapts to rows from elsewhere while it predicts them, without labels.

    Each call is one step of `kdlosses.adaptation.RobustMeanTeacher`: call it batch by batch, in the order in which the
    rows come. The student itself stays as it is. The prediction is the softmax of the mean of the outputs of the
    adapted network and of its moving average.

    Args:
        student: a fitted student of classes.
        X: rows of the source, such as those that it was trained on: its mean hidden features of each class hold the
            adapted ones near. Without them, that term is left out.
        options: of `RobustMeanTeacher`, such as `lr` and `momentum`.

    Raises:
        ValueError: it is not a student of single labels, an option is out of range, or tap or prototypes stand beside
            X, of which they are made.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> student = StudentClassifier(epochs=100, random_state=0).fit(X, y)
    >>> adapting = Adapting(student, X, lr=0.003)
    >>> answers = [adapting.predict(batch + 0.3) for batch in (X[::3], X[1::3], X[2::3])]
    >>> len(answers[0])
    50
    """

    def __init__(self, student: StudentClassifier, X: Matrix | None = None, **options: Any) -> None:
        if getattr(student, "task_", None) != "single-label":
            raise ValueError("a student that adapts has been fitted to classes, one a row: call fit first")
        self.student = student
        network = student.network_
        if X is not None:
            made = sorted({"tap", "prototypes"} & options.keys())
            if made:
                raise ValueError(f"{made[0]} is made of X: pass one of the two")
            tap = f"layers.{len(network.layers) - 1}:in"
            source = student._read(X)
            parts = ((rows(source, part),) for part in torch.arange(source.shape[0]).split(_ROWS))
            options |= {"tap": tap, "prototypes": prototypes(network, tap, parts, len(student.classes_))}
        self.network = RobustMeanTeacher(network, **options)

    def outputs(self, X: Matrix) -> Tensor:
        """The mean of the two outputs for each row, before any softmax, `(n, C)`; then it has adapted to these rows."""
        return self.network(rows(self.student._read(X)).to_dense()) / 2

    def predict_proba(self, X: Matrix) -> np.ndarray:
        """Probabilities `(n, C)` of the classes."""
        return self.outputs(X).double().softmax(1).numpy()

    def predict(self, X: Matrix) -> np.ndarray:
        """The most probable class of each row, `(n,)`."""
        return self.student.classes_[self.predict_proba(X).argmax(1)]
