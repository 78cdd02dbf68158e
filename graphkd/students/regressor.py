"""The student of numbers: as the classifier, with squared errors in place of cross-entropies."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from graphkd.sparse.rows import Matrix
from graphkd.students.classifier import StudentClassifier


class StudentRegressor(RegressorMixin, StudentClassifier):
    """A multi-layer perceptron that predicts numbers; arguments and files are those of `StudentClassifier`.

    Its labels are floats `(n,)` or `(n, T)`, a teacher's outputs `(n, T)`, both in the same units, whichever these are:
    it learns both standardised, with the mean and the deviation of the labels that it may learn from, and its last
    layer then takes these in, so that predictions, scores and files are in the user's units. Losses, as those of
    `history_` and of a method of one's own, are of standardised numbers.

    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> StudentRegressor(hidden=32, scaler=StandardScaler(), random_state=0).fit(X, 1e4 + y).score(X, 1e4 + y) > 0.5
    True
    """

    task = "regression"

    def predict(self, X: Matrix) -> np.ndarray:
        """The numbers of each row, `(n,)`, or `(n, T)` if there were several in `fit`."""
        found = self.outputs(X).numpy()
        return found[:, 0] if found.shape[1] == 1 else found

    def predict_proba(self, X: Matrix) -> np.ndarray:
        """There are none: raises TypeError."""
        raise TypeError("a StudentRegressor predicts numbers, of which there are no probabilities; use predict")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags = None
        tags.target_tags.multi_output = True
        return tags
