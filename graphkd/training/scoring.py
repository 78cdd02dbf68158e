"""Scores by scikit-learn's scorers, of outputs and targets, to select epochs by and to report."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.spec import resolve
from graphkd.training.loop import Score, score
from graphkd.training.matched import matched_accuracy
from graphkd.training.task import TASKS, Task
from kdlosses.options import nearest

ScoringSpec = str | Mapping[str, Any] | Callable[..., float]
OWN = {"matched_accuracy": matched_accuracy}
"""Scorers that scikit-learn has not; with options, as `dict(type=name, ...)`."""
_SCORING = "the name of a scorer, a dict with a type, a function (estimator, X, y), or a list of these"
_OF_NUMBERS = ("error", "r2", "explained_variance", "d2_absolute_error_score")
_OF_PARTITIONS = ("rand_score", "mutual_info_score", "completeness", "homogeneity", "v_measure", "fowlkes")
_SHARES = ("accuracy", "f1", "precision", "recall", "jaccard", "roc_auc", "average_precision")


@dataclass(frozen=True)
class Measure:
    """A scorer for one task.

    Attributes:
        name: the scorer's.
        task: what is predicted.
        scorer: `(estimator, X, y) -> number`; None is the accuracy, counted by PyTorch.
    """

    name: str
    task: Task
    scorer: Callable[..., float] | None

    @property
    def share(self) -> bool:
        """Whether it is a share from 0 to 1, which logs keep in per cent."""
        return not self.name.startswith("neg_") and any(word in self.name for word in _SHARES)

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        """The score of outputs `(n, C)` for targets, greater is better; the accuracy takes classes `(n,)` as well.

        Raises:
            ValueError: it is not a number, as where a class is missing among the targets.
        """
        if self.scorer is None:
            classes = outputs if outputs.ndim == 1 else outputs.argmax(1)
            return (classes == targets).double().mean().item()
        truth = targets.numpy()
        truth = truth[:, 0] if self.task.name == "regression" and truth.shape[1] == 1 else truth
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a class that is never predicted, early in training
            found = float(self.scorer(_answering(self.task.name, outputs.shape[1]), outputs.double().numpy(), truth))
        if not np.isfinite(found):
            raise ValueError(
                f"the score {self.name!r} of {len(targets)} samples is {found}: they lack a class that it needs; "
                "choose another scoring, or a larger split"
            )
        return found

    def both(self, outputs: Tensor, targets: Tensor) -> Score:
        """The score, and minus the loss on the labels to break ties."""
        if self.scorer is None:
            return score(outputs, targets)
        return self(outputs, targets), -self.task.hard(outputs, targets).item()


def measures(scoring: ScoringSpec | Sequence[ScoringSpec] | None, task: str, width: int) -> tuple[Measure, ...]:
    """The measures that are named, the first of which selects.

    Args:
        scoring: names of scikit-learn's scorers, dicts of those in `OWN`, or scorers of one's own
            `(estimator, X, y) -> number`; None is the task's own: `accuracy`, `f1_micro` of several labels, `r2` of
            numbers.
        task: see `graphkd.training.task.TASKS`.
        width: number of classes, labels or numbers.

    Raises:
        KeyError: no such scorer; names the nearest.
        TypeError: it is neither a name nor a function.
        ValueError: the scorer is not one for this task.

    >>> [each.name for each in measures(["f1_macro", "accuracy"], "single-label", 3)]
    ['f1_macro', 'accuracy']
    >>> measures("f1_makro", "single-label", 3)
    Traceback (most recent call last):
    KeyError: "no scoring is called 'f1_makro'; did you mean 'f1_macro' or 'f1_micro'?"
    """
    kind = TASKS[task]
    if not (scoring is None or isinstance(scoring, str | Mapping | Sequence) or callable(scoring)):
        raise TypeError(f"scoring is {_SCORING}; got {scoring!r}")
    one = scoring is None or isinstance(scoring, str | Mapping) or callable(scoring)
    given: list[Any] = [scoring] if one else [*scoring]  # type: ignore[misc]
    if not given:
        raise ValueError("scoring names no scorer; leave it out for the default")
    found = tuple(_measure(kind.scoring if each is None else each, kind, width) for each in given)
    names = [each.name for each in found[1:]]  # which tell what they report apart
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"scoring has two scorers called {twice[0]!r}; drop one, or give functions names of their own")
    return found


def _measure(scoring: ScoringSpec, task: Task, width: int) -> Measure:
    if scoring == "accuracy" and task.name == "single-label":
        return Measure("accuracy", task, None)
    from sklearn.metrics import get_scorer, get_scorer_names

    if isinstance(scoring, Mapping) or (isinstance(scoring, str) and scoring in OWN):
        scorer, options = resolve("scoring", scoring, OWN)
        name = "_".join([scorer.__name__, *(value for value in options.values() if isinstance(value, str))])
        measure = Measure(name, task, functools.partial(scorer, **options))
    elif isinstance(scoring, str):
        if scoring not in get_scorer_names():
            raise KeyError(f"no scoring is called {scoring!r}; {nearest(scoring, [*get_scorer_names(), *OWN], 2)}")
        foreign = _OF_PARTITIONS if task.name == "regression" else _OF_NUMBERS
        if any(word in scoring for word in foreign):
            raise ValueError(f"scoring={scoring!r} does not measure {task.name} targets; the default is {task.scoring}")
        measure = Measure(scoring, task, get_scorer(scoring))
    elif callable(scoring):
        own = getattr(scoring, "_score_func", scoring)
        measure = Measure(getattr(own, "__name__", type(own).__name__), task, scoring)
    else:
        raise TypeError(f"scoring is {_SCORING}; got {scoring!r}")
    try:
        measure(*_sample(task.name, width))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"scoring={measure.name!r} does not measure {task.name} targets: {error}") from error
    return measure


def _sample(task: str, width: int) -> tuple[Tensor, Tensor]:
    """Outputs and targets of a few samples, in which nothing is missing."""
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(2 * width + 2, width, generator=draw)
    if task == "single-label":
        return outputs, torch.arange(len(outputs)) % width
    if task == "multi-label":
        return outputs, (torch.arange(len(outputs))[:, None] + torch.arange(width)) % 2
    return outputs, torch.randn(outputs.shape, generator=draw)


@functools.cache
def _answering(task: str, width: int) -> Any:
    """An estimator of scikit-learn whose features are the outputs already."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Classifier(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(width) if task == "single-label" else np.eye(width, dtype=int)

        def predict(self, X: np.ndarray) -> np.ndarray:
            return TASKS[task].answer(torch.from_numpy(X)).numpy()

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            z = torch.from_numpy(X)
            return (z.softmax(1) if task == "single-label" else z.sigmoid()).numpy()

        def decision_function(self, X: np.ndarray) -> np.ndarray:
            return X[:, 1] - X[:, 0] if task == "single-label" and width == 2 else X

    class Regressor(RegressorMixin, BaseEstimator):
        def predict(self, X: np.ndarray) -> np.ndarray:
            return X[:, 0] if width == 1 else X

    return Regressor() if task == "regression" else Classifier()
