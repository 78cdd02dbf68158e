"""The student: a scikit-learn classifier that was taught by a graph and needs none to predict."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from graphkd import saved
from graphkd.cache import Cache, check_finite
from graphkd.data.graph import as_edges
from graphkd.extras import needs_extra
from graphkd.features import Matrix, rows, to_scipy
from graphkd.lesson import Lesson
from graphkd.mlp import MLP
from graphkd.recipes import NETWORKS, RECIPES, network_of
from graphkd.spec import resolve
from graphkd.training import Clock, Evaluation, Schedule, score, train

_PREDICT_ROWS = 65_536


class StudentClassifier(ClassifierMixin, BaseEstimator):
    """A multi-layer perceptron that learns from labels, a teacher's logits and, if the method wants them, edges.

    Args:
        hidden: widths of the hidden layers.
        dropout: share of hidden units dropped in training.
        norm: `batch`, `layer` or None, see `graphkd.mlp.MLP`.
        method: a recipe of `graphkd.recipes` by name, as `dict(type=name, **options)` or as a function; used when a
            teacher is given to `fit`, which without one learns from labels alone.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        epochs: at most.
        patience: stop when so many epochs brought no better validation score; only with validation data.
        batch_size: samples in a step; None takes all at once.
        random_state: seed of initial parameters, dropout, batches and sampled edges.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        network_: the trained `MLP`.
        history_: see `graphkd.training.History`.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> StudentClassifier(epochs=100, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        dropout: float = 0.0,
        method: str | Mapping[str, Any] | Callable[..., Any] = "glnn",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
        patience: int = 50,
        batch_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.norm = norm
        self.method = method
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(
        self,
        X: Matrix,
        y: Sequence[Any] | np.ndarray | Tensor,
        *,
        teacher: Cache | Matrix | None = None,
        edge_index: Tensor | None = None,
        labelled: np.ndarray | Tensor | None = None,
        validation: tuple[Matrix, Any] | None = None,
        monitor: tuple[Matrix, Any] | None = None,
    ) -> StudentClassifier:
        """Train.

        Args:
            X: features `(n, F)`: array, memory-mapped array, scipy CSR or tensor. With `batch_size`, only the rows of a
                step are read.
            y: labels `(n,)`. With a teacher, those of its columns: 0 to C - 1, or C different ones in sorted order.
            teacher: its logits `(n, C)`, or its cache (every row of `X` observed), which may be that of several
                teachers of C classes each; None trains on labels alone.
            edge_index: `(2, E)` between rows of `X`, for the methods that learn from edges: both directions, each once.
            labelled: which entries of `y` may be learnt from, as a mask `(n,)` or as indices; all if not given. The
                others are never read.
            validation: features and labels to choose the best epoch by; without them the last is kept.
            monitor: features and labels that only `history_.oracle` is measured on.

        Raises:
            ValueError: sizes, labels or the teacher's output do not fit; says which.
        """
        spec = "supervised" if teacher is None else self.method
        method, options = resolve("method", spec, RECIPES)
        X, targets = self._features_and_labels(X, y, labelled, teacher)
        logits = _teacher_logits(teacher, X.shape[0])
        hidden = teacher.hidden if isinstance(teacher, Cache) else ()
        if edge_index is not None:
            edge_index = _checked_edges(edge_index, X.shape[0])
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        generator = torch.Generator().manual_seed(seed)
        schedule = Schedule(self.lr, self.weight_decay, self.epochs, self.patience, self.batch_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network_ = network_of(spec)(X.shape[1], self.hidden, len(self.classes_), self.dropout, self.norm)
            clock = Clock()
            loop = functools.partial(
                train,
                schedule=schedule,
                evaluate=self._evaluation(validation, monitor),
                generator=generator,
                clock=clock,
            )
            resident = rows(X) if self.batch_size is None else X
            lesson = Lesson(resident, targets, loop, generator, logits, edge_index, self.batch_size, hidden, clock)
            if isinstance(teacher, Cache):
                lesson = replace(
                    lesson,
                    parts=teacher.parts,
                    own_tasks=teacher.own_tasks,
                    more=teacher.more,
                    params={name: torch.from_numpy(array.copy()) for name, array in teacher.params.items()},
                )
            self.history_ = method(self.network_, lesson, **options)
        self.network_.eval()
        return self

    def predict_proba(self, X: Matrix) -> np.ndarray:
        """Class probabilities `(n, C)`."""
        check_is_fitted(self)
        X = validate_data(self, _as_array(X), reset=False, accept_sparse="csr", dtype=np.float32)
        parts = torch.arange(X.shape[0]).split(_PREDICT_ROWS)
        with torch.inference_mode():
            return np.concatenate([self.network_(rows(X, part)).double().softmax(1).numpy() for part in parts])

    def predict(self, X: Matrix) -> np.ndarray:
        """The most probable class of each row, `(n,)`."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def to_onnx(self, path: str | Path) -> None:
        """Write the student as an ONNX model: `x` `(n, F)` float32 to `probabilities` `(n, C)` float32.

        Any number of rows at once; sparse features are to be made dense. The classes stand as a JSON list under
        `classes` in the metadata of the model.

        Raises:
            ImportError: the extra `onnx` is not installed.
        """
        check_is_fitted(self)
        with needs_extra("StudentClassifier.to_onnx"):
            for package in ("onnx", "onnxscript"):
                importlib.import_module(package)
        model = torch.nn.Sequential(copy.deepcopy(self.network_), torch.nn.Softmax(1)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                model,
                (torch.zeros(2, self.n_features_in_),),
                input_names=["x"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props["classes"] = json.dumps(self.classes_.tolist())
        program.save(path)

    def save(self, path: str | Path) -> None:
        """Write parameters and classes to one safetensors file, with the rest as JSON in its header; no pickle."""
        check_is_fitted(self)
        meta = {
            "in_features": self.n_features_in_,
            "hidden": list(self.hidden),
            "dropout": self.dropout,
            "norm": self.norm,
            "network": type(self.network_).__name__,
            "classes": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
        }
        saved.write(path, self.network_, "graphkd", meta)

    @classmethod
    def load(cls, path: str | Path) -> StudentClassifier:
        """Read what `save` wrote: a student that predicts the same.

        Raises:
            ValueError: the file is no saved student, or is damaged.
        """
        state, meta = saved.read(path, "graphkd", "student")
        with saved.rebuilding(path, "student"):
            student = cls(hidden=tuple(meta["hidden"]), dropout=meta["dropout"], norm=meta.get("norm"))
            student.n_features_in_ = meta["in_features"]
            student.classes_ = np.array(meta["classes"], dtype=meta["classes_dtype"])
            network = {each.__name__: each for each in (MLP, *NETWORKS.values())}[meta.get("network", "MLP")]
            student.network_ = network(
                student.n_features_in_, student.hidden, len(student.classes_), student.dropout, student.norm
            ).eval()
            student.network_.load_state_dict(state)
        return student

    def _features_and_labels(
        self, X: Matrix, y: Any, labelled: np.ndarray | Tensor | None, teacher: Cache | Matrix | None
    ) -> tuple[Any, Tensor]:
        """Check `X` and `y`; returns them with labels as class numbers, -1 where not labelled."""
        y = np.asarray(y)
        told = _told(labelled, len(y)) if y.ndim == 1 else np.ones(len(y) if y.ndim else 0, dtype=bool)
        if not told.all():
            y = np.where(told, y, y[told][0])  # the others are not even checked
        X, y = validate_data(self, _as_array(X), y, accept_sparse="csr", dtype=np.float32)
        check_classification_targets(y[told])
        self.classes_ = np.unique(y[told])
        columns = None if teacher is None else _classes(teacher)
        if columns is not None:
            if type_of_target(y[told]) in ("binary", "multiclass") and np.issubdtype(y.dtype, np.integer):
                bad = told & ((y < 0) | (y >= columns))
                if bad.any():
                    row = int(bad.argmax())
                    raise ValueError(
                        f"label {y[row]} of row {row} is out of range; the teacher has {columns} classes"
                        + ("; rows without a label are left out of labelled" if y[row] < 0 else "")
                    )
                self.classes_ = np.arange(columns)
            elif len(self.classes_) != columns:
                raise ValueError(f"the labels have {len(self.classes_)} classes, the teacher {columns}")
        elif len(self.classes_) < 2:
            raise ValueError(f"a classifier needs two classes, the data contains only one class: {self.classes_[0]!r}")
        targets = torch.full((len(y),), -1)
        targets[torch.from_numpy(told)] = torch.from_numpy(np.searchsorted(self.classes_, y[told]))
        return X, targets

    def _evaluation(
        self, validation: tuple[Matrix, Any] | None, monitor: tuple[Matrix, Any] | None
    ) -> Callable[[], Evaluation]:
        """A function that scores the network, as it is when called, on both pairs of features and labels."""

        def prepared(pair: tuple[Matrix, Any] | None) -> tuple[Tensor, Tensor] | None:
            if pair is None:
                return None
            X = validate_data(self, _as_array(pair[0]), reset=False, accept_sparse="csr", dtype=np.float32)
            labels = np.asarray(pair[1])
            if labels.shape != X.shape[:1]:
                raise ValueError(f"validation or monitor has {X.shape[0]} rows but labels {labels.shape}")
            if (labels.dtype.kind in "USO") != (self.classes_.dtype.kind in "USO"):
                raise ValueError(
                    f"validation or monitor holds labels like {labels[0]!r}, y others like {self.classes_[0]!r}"
                )
            strange = np.setdiff1d(labels, self.classes_)
            if len(strange):
                raise ValueError(f"validation or monitor holds the label {strange[0]}, which is not among the classes")
            return rows(X), torch.from_numpy(np.searchsorted(self.classes_, labels))

        chosen_by, watched = prepared(validation), prepared(monitor)

        def evaluate() -> Evaluation:
            with torch.inference_mode():
                return (
                    None if chosen_by is None else score(self.network_(chosen_by[0]), chosen_by[1]),
                    None if watched is None else score(self.network_(watched[0]), watched[1])[0],
                )

        return evaluate

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _as_array(X: Any) -> Any:
    """Tensors as what scikit-learn checks: arrays, or scipy matrices for sparse ones; float32 is not copied."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    if X.dtype in (torch.float16, torch.bfloat16):
        X = X.float()
    if X.layout is torch.strided:
        return X.numpy()
    return to_scipy(X.to_sparse_csr())


def _classes(teacher: Cache | Matrix) -> int | None:
    """Number of classes that all teachers share with the student; None if they have tasks of their own, or none."""
    if not isinstance(teacher, Cache):
        return teacher.shape[1]
    if teacher.own_tasks:
        return None
    found = {each.logits.shape[1] for each in teacher.split()}
    if len(found) > 1:
        raise ValueError(f"the teachers have {', '.join(map(str, sorted(found)))} classes; they must have the same")
    return found.pop() or None


def _teacher_logits(teacher: Cache | Matrix | None, count: int) -> Matrix | None:
    if teacher is None:
        return None
    logits = teacher.logits if isinstance(teacher, Cache) else teacher
    if logits.ndim == 2 and len(logits) == count and not logits.shape[1]:
        return None  # a language model that was not asked for labels
    if logits.ndim != 2 or len(logits) != count:
        raise ValueError(f"the teacher has logits {tuple(logits.shape)}; expected one row for each of the {count} of X")
    if isinstance(logits, Tensor):
        logits = logits.detach().cpu().numpy()
    check_finite(logits, np.ones(count, dtype=bool), "the teacher's logits")
    return logits


def _told(labelled: np.ndarray | Tensor | None, count: int) -> np.ndarray:
    """Mask `(count,)` of the labels that may be learnt from."""
    if labelled is None:
        return np.ones(count, dtype=bool)
    given = np.asarray(labelled)
    mask = given.dtype == np.bool_
    if given.ndim != 1 or (mask and len(given) != count) or (given.size and given.dtype.kind not in "biu"):
        raise ValueError(
            f"labelled is a mask ({count},) or a list of row numbers, got {given.dtype} of shape {given.shape}"
        )
    places = np.flatnonzero(given) if mask else given
    if not len(places):
        raise ValueError("no entry of y is labelled")
    if places.min() < 0 or places.max() >= count:
        wrong = places[(places < 0) | (places >= count)][0]
        raise ValueError(f"labelled names row {wrong}, but y has the rows 0 to {count - 1}")
    told = np.zeros(count, dtype=bool)
    told[places] = True
    return told


def _checked_edges(edge_index: Any, count: int) -> Tensor:
    edges = as_edges(edge_index)
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < count):
        wrong = int(edges.max()) if int(edges.max()) >= count else int(edges.min())
        raise ValueError(f"edge_index names row {wrong}, but X has the rows 0 to {count - 1}")
    return edges
