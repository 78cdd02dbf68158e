"""Accuracy where the outputs of new classes have no order: they are matched to classes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment


def matched_accuracy(estimator: Any, X: np.ndarray, y: np.ndarray, *, known: Sequence[int], of: str = "all") -> float:
    """Accuracy after the best one-to-one match of new outputs to new classes; known classes keep their own outputs.

    The match is the one under which most samples are right (Hungarian algorithm), found on the samples that are scored.
    A sample of a new class that is taken for a known one is wrong, and the other way round.

    Args:
        estimator: with a `predict` that answers with numbers of classes.
        X: samples `(n, F)`.
        y: their classes `(n,)`.
        known: the classes that have labels; all others are new.
        of: the samples that count: `all`, those of `known` classes, or those of `new` ones; NaN if there are none.

    Raises:
        TypeError: `known` is no list of whole numbers from 0.
        ValueError: `of` is something else.

    >>> class Answers:
    ...     def predict(self, X):
    ...         return X
    >>> answers, classes = np.array([0, 2, 2, 1, 0]), np.array([0, 1, 1, 2, 2])
    >>> matched_accuracy(Answers(), answers, classes, known=[0])  # 2 is class 1, and 1 is class 2
    0.8
    """
    if of not in ("all", "known", "new"):
        raise ValueError(f"of is 'all', 'known' or 'new', got {of!r}")
    if not isinstance(known, list | tuple | range) or any(not isinstance(each, int) or each < 0 for each in known):
        raise TypeError(f"known is a list of numbers of classes, got {known!r}")
    answers, y = np.asarray(estimator.predict(X)), np.asarray(y)
    count = 1 + int(max(answers.max(initial=0), y.max(initial=0), *known))
    table = np.zeros((count, count), dtype=int)
    np.add.at(table, (answers, y), 1)
    new = np.setdiff1d(np.arange(count), known)
    means = np.arange(count)
    outputs, classes = linear_sum_assignment(table[np.ix_(new, new)], maximize=True)
    means[new[outputs]] = new[classes]
    counted = {"all": np.ones(len(y), bool), "known": np.isin(y, known), "new": ~np.isin(y, known)}[of]
    return float((means[answers] == y)[counted].mean()) if counted.any() else float("nan")
