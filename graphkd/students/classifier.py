"""The student: a scikit-learn classifier that is distilled from a graph and predicts without it."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from graphkd.data.graph import as_edges
from graphkd.data.targets import known
from graphkd.extras import needs_extra
from graphkd.networks.mlp import MLP, checked_shape
from graphkd.recipes import NETWORKS, RECIPES, asks, check_method, check_run, network_of
from graphkd.recipes.registry import check_task
from graphkd.sparse.rows import Matrix, rows, to_scipy
from graphkd.sparse.shards import Shards
from graphkd.spec import from_json, resolve, to_json
from graphkd.students import files, scaling
from graphkd.students.targets import is_indicator, read_targets
from graphkd.training.cache import Cache, check_finite, warn_of_probabilities
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, Evaluation, Schedule, train
from graphkd.training.scoring import measures
from graphkd.training.task import TASKS
from graphkd.training.units import Units
from graphkd.training.watch import Callback, Run
from kdlosses.whole import whole

if TYPE_CHECKING:
    from graphkd.teachers.live import Live  # which needs torch-geometric

_PREDICT_ROWS = 65_536


class StudentClassifier(ClassifierMixin, BaseEstimator):
    """A multi-layer perceptron that learns from labels, a teacher's logits and, if the method wants them, edges.

    Settings may be numbers of NumPy, as a search draws them; each is checked before anything is trained.

    Args:
        hidden: widths of the hidden layers; a number is one layer, `()` none.
        dropout: share of hidden units dropped in training.
        norm: `batch`, `layer` or None, see `graphkd.networks.mlp.MLP`.
        method: a recipe of `graphkd.recipes` by name, as `dict(type=name, **options)` or as a function; used when a
            teacher is given to `fit`, which without one learns from labels alone.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        epochs: at most.
        patience: stop after this many epochs without a better validation score; only with validation data.
        batch_size: samples in a step; None takes all at once.
        random_state: seed of initial parameters, dropout, batches and sampled edges.
        scaler: `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler` or `RobustScaler` of scikit-learn or a `Pipeline` of
            these: fitted to the rows of `fit`, it scales these and all that come after, those of `validation` too,
            and is saved and exported with the student. It reads all rows at once; one that centres makes sparse
            ones dense. See `from_pipeline`.
        device: where the network is trained: `cpu`, `cuda`, `cuda:1`, or `auto`, CUDA where there is one. The data stay
            where they are, and the trained network is on the CPU. Methods that read or change the parameters of
            their student, see `graphkd.recipes.HANDS_ON`, train it on the CPU.
        amp: multiply in bfloat16 in training; losses stay in float32.
        scoring: what the epoch is chosen by on the validation data: a scorer of scikit-learn by name, or a function
            `(estimator, X, y) -> number`. None is the accuracy, of several labels `f1_micro`.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        task_: `single-label` or `multi-label`.
        feature_names_in_: names of the columns of `X`, if it was a table.
        scaler_: the fitted scaler, None without one.
        network_: the trained `MLP`.
        history_: see `graphkd.training.loop.History`.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> StudentClassifier(epochs=100, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    task: str | None = None
    """What it is for, if that is not for the labels to tell."""

    def __init__(
        self,
        hidden: Sequence[int] | int = (256,),
        dropout: float = 0.5,
        method: str | Mapping[str, Any] | Callable[..., Any] = "glnn",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 500,
        patience: int = 50,
        batch_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        norm: Literal["batch", "layer"] | None = None,
        scaler: BaseEstimator | None = None,
        device: str | torch.device | None = None,
        amp: bool = False,
        scoring: str | Callable[..., float] | None = None,
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
        self.scaler = scaler
        self.device = device
        self.amp = amp
        self.scoring = scoring

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
        progress: bool = False,
        callback: Callback | None = None,
        role: str = "student",
        live: Live | None = None,
    ) -> StudentClassifier:
        """Train. Rows are matched by position; the index of a table is ignored.

        A search of scikit-learn (`GridSearchCV`, `cross_val_score`) cuts out the rows of a fold of all that has n
        entries: there `labelled` must be a mask and `teacher` its logits. Row numbers and edges, which it leaves whole,
        are refused: choose settings for a method that learns from edges by `validation`.

        Args:
            X: features `(n, F)`: array, table, memory-mapped array, scipy CSR or tensor. With `batch_size`, only the
                rows of a step are read.
            y: labels `(n,)` or `(n, 1)`; or several of 0 and 1 a row, `(n, L)`. With a teacher, those of its columns: 0
                to C - 1, or C different ones in sorted order. None, NaN and -1 (but for labels that are -1 and 1,
                without a teacher) are no labels: such rows are left out of `labelled`.
            teacher: its logits `(n, C)`, or its cache (every row of `X` observed), which may be that of several
                teachers of C classes each; None trains on labels alone.
            edge_index: `(2, E)` between rows of `X`, for the methods that learn from edges: both directions, each once.
            labelled: which entries of `y` may be learnt from, as a mask `(n,)` of bool or 0 and 1, or as row numbers;
                all if not given. The others are never read.
            validation: features and labels to choose the best epoch by; without them the last is kept.
            monitor: features and labels that only `history_.oracle` is measured on.
            progress: show a bar of the epochs; else nothing is printed.
            callback: called with an `Event` after each epoch, see `graphkd.training.watch`.
            role: what the bar and the events call it.
            live: the teacher itself, about the rows of `X`, for a method that asks it about changes to them.

        Raises:
            ValueError: settings, sizes, labels or the teacher's output do not fit; says which.
        """
        schedule = self.check_settings()
        _check_whole(self, labelled, edge_index, validation, monitor)
        spec = "supervised" if teacher is None else self.method
        method, options = resolve("method", spec, RECIPES)
        run = Run.of(self.device, self.amp, progress, callback)
        check_run(spec, run.device, run.amp)
        columns = getattr(teacher, "columns", None)
        teacher = _as_teacher(teacher)
        X, targets = self._features_and_labels(X, y, labelled, teacher)
        check_task(spec, self.task_)
        if columns is not None:
            _check_columns([*columns], self.classes_.tolist())
        logits = _teacher_logits(teacher, X.shape[0])
        if logits is not None and not isinstance(teacher, Cache) and self.task_ == "single-label":
            warn_of_probabilities(logits)
        hidden = teacher.hidden if isinstance(teacher, Cache) else ()
        if edge_index is not None:
            edge_index = _checked_edges(edge_index, X.shape[0])
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        generator = torch.Generator().manual_seed(seed)
        units = Units.of(targets[known(targets)]) if self.task_ == "regression" and network_of(spec) is MLP else None
        if units is not None:
            targets = units.standard(targets)
            own_tasks = isinstance(teacher, Cache) and teacher.own_tasks
            logits = logits if logits is None or own_tasks else units.standard(rows(logits))
        evaluate = self._evaluation(validation, monitor, units)
        with torch.random.fork_rng(devices=[]), run.watched(role) as tell:
            torch.manual_seed(seed)
            self.network_ = network_of(spec)(X.shape[1], self.hidden, len(self.classes_), self.dropout, self.norm)
            if isinstance(self.network_, MLP):
                self.network_.amp = run.amp
            self.network_.to(run.device)
            clock = Clock()
            loop = functools.partial(
                train,
                schedule=schedule,
                evaluate=evaluate,
                generator=generator,
                clock=clock,
                callback=tell,
            )
            resident = rows(X) if schedule.batch_size is None else X
            lesson = Lesson(resident, targets, loop, generator, logits, edge_index, schedule.batch_size, hidden, clock)
            lesson = replace(lesson, task=TASKS[self.task_])
            if isinstance(teacher, Cache):
                lesson = replace(
                    lesson,
                    parts=teacher.parts,
                    own_tasks=teacher.own_tasks,
                    more=teacher.more,
                    params={name: torch.from_numpy(array.copy()) for name, array in teacher.params.items()},
                )
            if live is not None and units is None and asks(spec):
                lesson = replace(lesson, live=_asked(live, resident, self.scaler_))
            self.history_ = method(self.network_, lesson, **options)
        self.network_.cpu().eval()
        if units is not None:
            self.network_.rescale(units.scale, units.mean)
        return self

    def check_settings(self) -> Schedule:
        """Check the settings and return the schedule of `fit`; raise the same errors as `fit`.

        Raises:
            ValueError: a number is out of range, `norm`, `scaler`, `random_state` or `device` is nothing that these
                can be, or the method cannot be run so.
            KeyError: unknown method; names the nearest.
            TypeError: the method has no such option.
        """
        schedule = Schedule(self.lr, self.weight_decay, self.epochs, self.patience, self.batch_size)
        checked_shape(self.hidden, self.dropout, self.norm)
        check_method(self.method)
        check_seed(self.random_state)
        run = Run.of(self.device, self.amp)
        check_run(self.method, run.device, run.amp)
        if self.scaler is not None:
            scaling.scalers(self.scaler)
        return schedule

    @classmethod
    def from_pipeline(cls, pipeline: Pipeline) -> StudentClassifier:
        """Convert a `Pipeline` of scalers and a student, fitted or not, to one student with a built-in scaler.

        It takes what the pipeline takes, predicts the same, and can be saved and exported whole. Fitted here and not by
        the pipeline, it scales `validation` and `monitor`, too.

        Raises:
            ValueError: the last step is no student, or another one is nothing that a student keeps, see `scaler`.

        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> StudentClassifier.from_pipeline(make_pipeline(StandardScaler(), StudentClassifier(hidden=8)))
        StudentClassifier(hidden=8, scaler=StandardScaler())
        """
        steps = pipeline.steps if isinstance(pipeline, Pipeline) else []
        if not steps or not isinstance(steps[-1][1], cls):
            raise ValueError(f"expected a Pipeline whose last step is a {cls.__name__}, got {pipeline!r}")
        given = steps[-1][1]
        fitted = hasattr(given, "network_")
        own = given.scaler_ if fitted else given.scaler
        before = [*scaling.scalers(Pipeline(steps[:-1]))] if steps[:-1] else []
        inside = [] if own is None else [(name or "scaler", step) for name, step in scaling.scalers(own)]
        found = [*before, *((f"student_{name}", step) for name, step in inside)]
        student = clone(given) if not fitted else copy.copy(given)
        if not found:
            return student
        scaler = found[0][1] if len(found) == 1 else Pipeline(found)
        student.set_params(scaler=clone(scaler))
        if fitted:
            student.scaler_ = copy.deepcopy(scaler)
            student.n_features_in_ = found[0][1].n_features_in_
            names = getattr(found[0][1], "feature_names_in_", None)
            if names is not None:
                student.feature_names_in_ = names
        return student

    def outputs(self, X: Matrix) -> Tensor:
        """What the network says of each row, before any softmax: `(n, C)` in double precision."""
        return torch.cat([*self._outputs(X)])

    def predict_proba(self, X: Matrix) -> np.ndarray:
        """Probabilities `(n, C)` of the classes, or `(n, L)` of each label by itself."""
        return np.concatenate([*self._probabilities(X)])

    def predict(self, X: Matrix) -> np.ndarray:
        """The most probable class of each row, `(n,)`; of several labels 0 and 1, `(n, L)`."""
        check_is_fitted(self)
        if self.task_ == "multi-label":
            return (self.predict_proba(X) > 0.5).astype(int)
        columns = np.concatenate([part.argmax(1) for part in self._probabilities(X)])
        return self.classes_[columns]

    def _probabilities(self, X: Matrix) -> Iterator[np.ndarray]:
        for found in self._outputs(X):
            yield (found.sigmoid() if self.task_ == "multi-label" else found.softmax(1)).numpy()

    def _outputs(self, X: Matrix) -> Iterator[Tensor]:
        """A block of rows after the other: of many rows not all are in memory at once."""
        check_is_fitted(self)
        X = self._read(X)
        for part in torch.arange(X.shape[0]).split(_PREDICT_ROWS):
            with torch.inference_mode():
                yield self.network_(rows(X, part)).double()

    def to_onnx(self, path: str | Path) -> None:
        """Write the student as an ONNX model: `x` `(n, F)` float32 to `probabilities` `(n, C)` float32.

        A student of numbers writes `predictions` `(n, T)`.

        Any number of rows at once, as they are before a scaler; sparse features are to be made dense. The classes stand
        as a JSON list under `classes` in the metadata of the model, the names of the columns, if `X` was a table, under
        `feature_names`.

        Raises:
            ImportError: the extra `onnx` is not installed.
        """
        check_is_fitted(self)
        with needs_extra("StudentClassifier.to_onnx"):
            for package in ("onnx", "onnxscript"):
                importlib.import_module(package)
        scale = [] if self.scaler_ is None else [scaling.Affine(step) for _, step in scaling.scalers(self.scaler_)]
        last = {
            "single-label": torch.nn.Softmax(1),
            "multi-label": torch.nn.Sigmoid(),
            "regression": torch.nn.Identity(),
        }
        model = torch.nn.Sequential(*scale, copy.deepcopy(self.network_), last[self.task_]).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                model,
                (torch.zeros(2, self.n_features_in_),),
                input_names=["x"],
                output_names=["predictions" if self.task_ == "regression" else "probabilities"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props["classes"] = json.dumps(self.classes_.tolist())
        if hasattr(self, "feature_names_in_"):
            program.model.metadata_props["feature_names"] = json.dumps(self.feature_names_in_.tolist())
        with whole(path) as draft:
            program.save(draft)

    def save(self, path: str | Path) -> None:
        """Write parameters, classes, settings and names of columns to one safetensors file; no pickle.

        Warns:
            UserWarning: the method holds a function or an object of your own, which is saved by name alone: it is to be
                set again before the student that is read is trained again. It predicts without.
        """
        check_is_fitted(self)
        in_features, hidden, _, dropout, norm = self.network_.shape
        settings = {name: value for name, value in self.get_params(deep=False).items() if name != "scaler"}
        if isinstance(self.device, torch.device):
            settings["device"] = str(self.device)
        meta = {
            "in_features": in_features,
            "hidden": hidden,
            "dropout": dropout,
            "norm": norm,
            "network": type(self.network_).__name__,
            "classes": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "settings": saved_settings(settings, RECIPES),
            "task": self.task_,
        }
        if hasattr(self, "feature_names_in_"):
            meta["feature_names"] = self.feature_names_in_.tolist()
        network = self.network_
        if self.scaler_ is not None:
            meta["scaler"] = scaling.described(self.scaler_)
            network = copy.deepcopy(network)
            kept = torch.nn.Module()
            for name, array in scaling.fitted_arrays(self.scaler_):
                kept.register_buffer(name, array)
            network.add_module("scaler", kept)
        files.write(path, network, "graphkd", meta)

    @classmethod
    def load(cls, path: str | Path) -> StudentClassifier:
        """Read what `save` wrote: a student that predicts the same, with the same settings.

        Raises:
            ValueError: the file is no saved student, or is damaged.
        """
        state, meta = files.read(path, "graphkd", "student")
        if (meta.get("task") == "regression") != (cls.task == "regression"):
            other = "StudentRegressor" if meta.get("task") == "regression" else "StudentClassifier"
            raise ValueError(f"{path} holds a {other}: use {other}.load")
        with files.rebuilding(path, "student"):
            student = cls(hidden=tuple(meta["hidden"]), dropout=meta["dropout"], norm=meta.get("norm"))
            loaded_settings(student, meta.get("settings", {}))
            student.task_ = TASKS[meta.get("task", "single-label")].name
            student.n_features_in_ = meta["in_features"]
            student.classes_ = np.array(meta["classes"], dtype=meta["classes_dtype"])
            if "feature_names" in meta:
                student.feature_names_in_ = np.array(meta["feature_names"], dtype=object)
            student.scaler_ = None
            if "scaler" in meta:
                learnt = {name.partition(".")[2]: state.pop(name) for name in [*state] if name.startswith("scaler.")}
                student.scaler = scaling.made(meta["scaler"])
                student.scaler_ = clone(student.scaler)
                scaling.fill(student.scaler_, learnt, student.n_features_in_)
            network = {each.__name__: each for each in (MLP, *NETWORKS.values())}[meta.get("network", "MLP")]
            with torch.device("meta"):  # takes memory for what is in the file, not for what its header says
                student.network_ = network(
                    student.n_features_in_, meta["hidden"], len(student.classes_), meta["dropout"], meta.get("norm")
                ).eval()
            student.network_.load_state_dict(state, assign=True)
        return student

    def _read(self, X: Matrix, y: Any = None, reset: bool = False) -> Any:
        """Features as an array of float32 or a sparse matrix, scaled; with `y`, both, as scikit-learn checks them."""
        if reset:
            self.scaler_ = None if self.scaler is None else clone(self.scaler)
        kind: Any = np.float32 if self.scaler_ is None else [np.float64, np.float32]
        labels = {} if y is None else {"y": y}
        found = validate_data(self, as_array(X), **labels, reset=reset, accept_sparse="csr", dtype=kind)
        X, y = (found, None) if y is None else found
        if self.scaler_ is not None:
            if hasattr(X, "tocsr") and scaling.centres(self.scaler_):
                X = X.toarray()
            if reset:
                self.scaler_.fit(X)
            X = self.scaler_.transform(X).astype(np.float32)
        return X if y is None else (X, y)

    def _features_and_labels(
        self, X: Matrix, y: Any, labelled: np.ndarray | Tensor | None, teacher: Cache | Matrix | None
    ) -> tuple[Matrix, Tensor]:
        """Features, and labels as class numbers, -1 where not labelled; of other tasks see `read_targets`."""
        self.task_ = self.task or ("multi-label" if is_indicator(y) else "single-label")
        if self.task_ != "single-label":
            X = self._read(X, reset=True)
            targets = read_targets(y, _told(labelled, X.shape[0]), self.task_)
            columns = targets.shape[1] if teacher is None else _classes(teacher)
            if columns is not None and columns != targets.shape[1]:
                raise ValueError(f"the labels have {targets.shape[1]} columns, the teacher {columns}")
            self.classes_ = np.arange(targets.shape[1])
            return X, targets
        values, missing = labels_of(y)
        if values.ndim != 1:
            validate_data(self, as_array(X), y, accept_sparse="csr")  # says what is wrong with other shapes
            raise ValueError(f"expected labels y (n,), got {values.shape}")
        told = _told(labelled, len(values))
        if (told & missing).any():
            row = int((told & missing).argmax())
            raise ValueError(
                f"row {row} of y holds no label; rows without a label are left out of labelled: pass labelled, a mask "
                f"({len(values)},) of the rows that have one"
            )
        if not told.all():
            values = np.where(told, values, values[told][0])  # the others are not even checked
        X, y = self._read(X, values, reset=True)
        check_classification_targets(y[told])
        self.classes_ = np.unique(y[told])
        columns = None if teacher is None else _classes(teacher)
        if columns is not None and np.issubdtype(y.dtype, np.integer):
            bad = told & ((y < 0) | (y >= columns))
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(
                    f"label {y[row]} of row {row} is out of range; the teacher has {columns} classes"
                    + ("; rows without a label are left out of labelled" if y[row] < 0 else "")
                )
            self.classes_ = np.arange(columns)
        elif (
            y.dtype.kind in "if" and -1 in self.classes_ and (teacher is not None or self.classes_.tolist() != [-1, 1])
        ):
            row = int((told & (y == -1)).argmax())
            raise ValueError(
                f"label -1 of row {row} stands for no label; rows without a label are left out of labelled: pass "
                "labelled=y != -1, or name a class otherwise"
            )
        elif columns is not None:
            if len(self.classes_) != columns:
                raise ValueError(f"the labels have {len(self.classes_)} classes, the teacher {columns}")
        elif len(self.classes_) < 2:
            raise ValueError(f"a classifier needs two classes, the data contains only one class: {self.classes_[0]!r}")
        targets = torch.full((len(y),), -1)
        targets[torch.from_numpy(told)] = torch.from_numpy(np.searchsorted(self.classes_, y[told]))
        return X, targets

    def _evaluation(
        self,
        validation: tuple[Matrix, Any] | None,
        monitor: tuple[Matrix, Any] | None,
        units: Units | None = None,
    ) -> Callable[[], Evaluation]:
        """A function that scores the network, as it is when called, on both pairs of features and labels.

        Answers are scored in these `units`, where the network learns standardised numbers.
        """

        def prepared(name: str, pair: tuple[Matrix, Any] | None) -> tuple[Tensor, Tensor] | None:
            if pair is None:
                return None
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"{name} is a pair, features (m, F) and labels (m,), got {type(pair).__name__}")
            X = self._read(pair[0])
            if self.task_ != "single-label":
                wanted = read_targets(pair[1], np.ones(X.shape[0], dtype=bool), self.task_, name)
                if wanted.shape[1] != len(self.classes_):
                    raise ValueError(f"{name} has {wanted.shape[1]} columns of labels, y has {len(self.classes_)}")
                return rows(X), wanted
            labels, missing = labels_of(pair[1])
            if labels.shape != X.shape[:1]:
                raise ValueError(f"{name} has {X.shape[0]} rows but labels {labels.shape}")
            if missing.any():
                raise ValueError(f"row {int(missing.argmax())} of {name} holds no label; leave such rows out")
            if (labels.dtype.kind in "USO") != (self.classes_.dtype.kind in "USO"):
                raise ValueError(f"{name} holds labels like {labels[0]!r}, y others like {self.classes_[0]!r}")
            strange = np.setdiff1d(labels, self.classes_)
            if len(strange):
                raise ValueError(f"{name} holds the label {strange[0]}, which is not among the classes")
            return rows(X), torch.from_numpy(np.searchsorted(self.classes_, labels))

        chosen_by, watched = prepared("validation", validation), prepared("monitor", monitor)
        measure = measures(self.scoring, self.task_, len(self.classes_))[0]

        def answers(X: Tensor) -> Tensor:
            found = self.network_(X)
            return found if units is None else units.own(found)

        def evaluate() -> Evaluation:
            with torch.inference_mode():
                return (
                    None if chosen_by is None else measure.both(answers(chosen_by[0]), chosen_by[1]),
                    None if watched is None else measure.both(answers(watched[0]), watched[1])[0],
                )

        return evaluate

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = True
        return tags


def as_array(X: Any) -> Any:
    """Convert tensors for scikit-learn: to arrays, or scipy matrices if sparse; float32 is not copied."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    if X.dtype in (torch.float16, torch.bfloat16):
        X = X.float()
    if X.layout is torch.strided:
        return X.numpy()
    return to_scipy(X.to_sparse_csr())


def labels_of(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as an array `(n,)` and a mask of the missing entries: None, NaN or NA.

    Arrays of objects that are all numbers or truth values become arrays of these; what holds none then is arbitrary.

    >>> labels_of([2, None, 0])
    (array([2, 2, 0]), array([False,  True, False]))
    """
    if isinstance(y, np.ma.MaskedArray):
        found, missing = labels_of(y.data)
        return found, missing | np.ma.getmaskarray(y).reshape(missing.shape)
    found = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if found.dtype.kind not in "biufcUO" and found.ndim:
        raise ValueError(f"labels are numbers or names, got {found.dtype}")
    if found.dtype.kind == "U" and isinstance(y, list | tuple):
        found = np.array(y, dtype=object)  # for NumPy, NaN among names is one more name
        if all(isinstance(each, str) for each in found.flat):
            found = np.asarray(y)
    if found.ndim == 2 and found.shape[1] == 1:
        found = column_or_1d(found, warn=True)
    if found.dtype.kind == "f":
        return found, np.isnan(found)
    if found.dtype != object or found.ndim != 1:
        return found, np.zeros(found.shape, dtype=bool)
    missing = np.array([_is_missing(each) for each in found], dtype=bool)
    there = found[~missing]
    kinds = {bool if isinstance(each, bool | np.bool_) else type(each) for each in there}
    if kinds and all(kind is bool or issubclass(kind, int | float | np.number) for kind in kinds):
        there = np.array(there.tolist()) if bool not in kinds or len(kinds) == 1 else there
    elif len(kinds) > 1 and any(issubclass(kind, str) for kind in kinds) and not all(issubclass(k, str) for k in kinds):
        raise ValueError(f"labels are of one kind, got {', '.join(sorted(kind.__name__ for kind in kinds))}")
    filled = np.full(len(found), there[0] if len(there) else None, dtype=there.dtype if len(there) else object)
    filled[~missing] = there
    return filled, missing


def _is_missing(value: Any) -> bool:
    """Whether an entry of a table is empty; pandas, which need not be installed, has marks of its own."""
    unequal = isinstance(value, float | np.floating) and bool(value != value)  # NaN
    return value is None or unequal or type(value).__name__ in ("NAType", "NaTType")


def check_seed(random_state: Any) -> None:
    """Raise ValueError unless scikit-learn can draw from this `random_state`."""
    try:
        check_random_state(random_state)
    except (ValueError, TypeError) as error:
        raise ValueError(f"random_state is a seed, a RandomState or None, got {random_state!r}: {error}") from None


def saved_settings(settings: Mapping[str, Any], recipes: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Settings of a student as JSON; warns of settings that are saved by name alone."""
    names = {recipe: name for name, recipe in recipes.items()}
    found = {}
    for setting, value in settings.items():
        foreign: list[str] = []
        found[setting] = to_json(value, names, foreign)
        if foreign:
            warnings.warn(
                f"{setting} is saved by name alone, {', '.join(foreign)}: to train the student that is read again, "
                f"set it first, set_params({setting}=...)",
                stacklevel=3,
            )
    return found


def loaded_settings(student: BaseEstimator, settings: Mapping[str, Any]) -> None:
    """Restore what `saved_settings` wrote; older files have none."""
    strange = settings.keys() - student.get_params(deep=False).keys()
    if strange:
        raise ValueError(f"this version does not know the settings {', '.join(sorted(strange))}")
    student.set_params(**{name: from_json(value) for name, value in settings.items()})


def _as_teacher(teacher: Any) -> Cache | Matrix | None:
    """The teacher's logits as an array of floats, if they are something else; a cache as it is."""
    if teacher is None or isinstance(teacher, Cache | Shards):
        return teacher
    if not hasattr(teacher, "shape") and not isinstance(teacher, list | tuple):
        raise ValueError(
            f"teacher is its logits (n, C), a row for each of X, or a Cache, got a {type(teacher).__name__}"
        )
    found = as_array(teacher)
    found = (
        found.toarray() if hasattr(found, "tocsr") else found if isinstance(found, np.ndarray) else np.asarray(found)
    )
    if found.ndim != 2:
        raise ValueError(f"the teacher has logits {found.shape}; expected (n, C), a column for each class")
    if found.dtype.kind == "c":
        raise ValueError(f"the teacher's logits are real numbers, got {found.dtype}")
    try:
        return found if found.dtype.kind == "f" else found.astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"the teacher's logits are numbers, got {found.dtype}") from None


def _check_columns(columns: list[Any], classes: list[Any]) -> None:
    """Refuse a teacher's table that has its columns in another order; warn of names that are no classes."""
    named, wanted = [*map(str, columns)], [*map(str, classes)]
    if named == wanted:
        return
    if {*named} == {*wanted}:
        raise ValueError(f"the teacher's columns are {columns}, the classes {classes}: pass teacher[classes]")
    if any(isinstance(each, str) for each in columns):
        warnings.warn(
            f"the teacher's columns are called {columns}, the classes {classes}: they are taken in this order; name "
            "the columns as the classes, so that this can be checked",
            stacklevel=3,
        )


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


def _asked(live: Live, x: Matrix, scaler: Any) -> Live:
    """A teacher that is asked about features as the student has them."""
    return replace(live, x=x, back=None if scaler is None else functools.partial(scaling.backwards, scaler))


def _teacher_logits(teacher: Cache | Matrix | None, count: int) -> Matrix | None:
    if teacher is None:
        return None
    logits: Any = teacher.logits if isinstance(teacher, Cache) else teacher
    if logits.ndim == 2 and len(logits) == count and not logits.shape[1]:
        return None  # a language model that was not prompted for labels
    if logits.ndim != 2 or len(logits) != count:
        hint = "; a search of scikit-learn cuts logits to its folds, not a Cache" if isinstance(teacher, Cache) else ""
        raise ValueError(
            f"the teacher has logits {tuple(logits.shape)}; expected one row for each of the {count} of X{hint}"
        )
    check_finite(logits, np.ones(count, dtype=bool), "the teacher's logits")
    return logits


def _told(labelled: Any, count: int) -> np.ndarray:
    """Mask `(count,)` of the labels that may be learnt from."""
    if labelled is None:
        return np.ones(count, dtype=bool)
    given = np.asarray(labelled.detach().cpu() if isinstance(labelled, Tensor) else labelled)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.dtype == object and given.ndim == 1 and len({type(each) for each in given}) == 1:
        given = np.array(given.tolist())
    mask = given.dtype == np.bool_ or (given.dtype.kind in "iuf" and given.ndim == 1 and _says_yes_or_no(given, count))
    if given.ndim != 1 or (mask and len(given) != count) or (given.size and not mask and given.dtype.kind not in "iu"):
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


def _says_yes_or_no(given: np.ndarray, count: int) -> bool:
    """Whether numbers are a mask of 0 and 1 and no row numbers.

    Raises:
        ValueError: they may be either, or neither.
    """
    if len(given) == count and not np.isin(given, (0, 1)).all() and len(np.unique(given)) < count:
        raise ValueError(
            f"labelled has {count} entries, as y, and names rows twice: a mask is of bool or of 0 and 1; row numbers "
            "name each row once"
        )
    if not given.size or not np.isin(given, (0, 1)).all():
        return False
    twice = len(np.unique(given)) < len(given)
    if len(given) != count:
        if twice:
            raise ValueError(f"labelled looks like a mask of {len(given)} rows, but y has {count}")
        return given.dtype.kind == "f"  # refused as such
    if not twice and count > 1 and given.any():
        raise ValueError(f"labelled={given.tolist()} may be a mask or row numbers; pass a mask of bool")
    return bool(twice or given.any())


def _check_whole(student: BaseEstimator, labelled: Any, edge_index: Any, validation: Any, monitor: Any) -> None:
    """Refuse row numbers of all of X in a fold of scikit-learn; warn of rows that a pipeline left unscaled.

    A fold of a search gets arrays of n entries cut to it and everything else as it is. A student cannot see that in
    what it gets, but on the stack.
    """
    for local in _callers():
        passed = local.get("fit_params")
        if "train" in local and isinstance(passed, Mapping):
            whole = [value for value in passed.values() if value is not None]
            if any(value is edge_index for value in whole):
                raise ValueError(
                    "edge_index names rows of all of X, of which scikit-learn passes only this fold: choose settings "
                    "by fit(..., validation=(X, y)), or search with a method that needs no edges"
                )
            if any(value is labelled for value in whole) and not _cut(labelled, len(local["train"])):
                raise ValueError(
                    "labelled names rows of all of X, of which scikit-learn passes only this fold: pass a mask (n,), "
                    "which it cuts as it cuts X"
                )
        pipeline = local.get("self")
        if isinstance(pipeline, Pipeline) and pipeline.steps[-1][1] is student:
            given = [name for name, rows in (("validation", validation), ("monitor", monitor)) if rows is not None]
            if given and any(step not in (None, "passthrough") for _, step in pipeline.steps[:-1]):
                warnings.warn(
                    f"{' and '.join(given)} reaches the student as it is: a Pipeline transforms X alone; "
                    "StudentClassifier.from_pipeline(pipeline).fit(...) scales all",
                    stacklevel=3,
                )
                return


def _cut(labelled: Any, count: int) -> bool:
    """Whether it is a mask of so many rows."""
    given = np.asarray(labelled)
    return given.shape[:1] == (count,) and bool(np.isin(given, (0, 1)).all())


def _callers() -> Iterator[Mapping[str, Any]]:
    """What the functions of scikit-learn that are running know, the innermost first."""
    frame = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("sklearn."):
            yield frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]


def _checked_edges(edge_index: Any, count: int) -> Tensor:
    edges = as_edges(edge_index)
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < count):
        wrong = int(edges.max()) if int(edges.max()) >= count else int(edges.min())
        raise ValueError(f"edge_index names row {wrong}, but X has the rows 0 to {count - 1}")
    return edges
