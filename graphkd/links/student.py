"""A student that predicts links from the features of two nodes alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from graphkd.links.heuristics import Heuristic
from graphkd.links.lesson import LinkLesson
from graphkd.links.metrics import auc, hits, ranked
from graphkd.links.network import LinkMLP
from graphkd.links.pairs import once
from graphkd.links.recipes import LINK_RECIPES
from graphkd.links.recipes.registry import LINK_NETWORKS, link_network_of
from graphkd.sparse.rows import Matrix, rows
from graphkd.spec import real, resolve, whole, widths
from graphkd.students import files
from graphkd.students.classifier import as_array, check_seed, loaded_settings, saved_settings
from graphkd.training.cache import check_finite
from graphkd.training.loop import Evaluation, Schedule, train

Ranked = tuple[Matrix, Tensor, Tensor]
"""Features, edges between their rows, and the non-edges to rank these among."""

_SCORE_PAIRS = 65_536


class LinkStudent(BaseEstimator):
    """A multi-layer perceptron that scores pairs of rows of a feature matrix.

    Settings may be numbers of NumPy, as a search draws them; each is checked before anything is trained.

    Args:
        hidden: widths of the encoder's layers, see `LinkMLP`; a number is one layer.
        dropout: share of hidden units dropped in training.
        method: a recipe of `LINK_RECIPES` by name, as `dict(type=name, **options)` or as a function; used when a
            teacher is given to `fit`, which without one learns from the edges alone.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        epochs: at most.
        patience: stop after this many epochs without a better validation score; only with validation data.
        batch_size: edges in a step; None takes all at once.
        k: K of the Hits@K to select by and to score with.
        random_state: seed of initial parameters, dropout, batches and whatever is sampled.

    Attributes:
        network_: the trained `LinkMLP`, or what the method trains in its place.
        feature_names_in_: names of the columns of `X`, if it was a table.
        history_: see `graphkd.training.loop.History`; its scores are Hits@K.

    >>> from graphkd.data import digits
    >>> from graphkd.links import tran
    >>> split = tran(digits(), seed=0)
    >>> student = LinkStudent(hidden=(32,), epochs=20, lr=0.01, random_state=0).fit(split.x, split.train)
    >>> student.decision_function(split.x, split.test["test"][:, :3]).shape
    (3,)
    """

    def __init__(
        self,
        hidden: Sequence[int] | int = (256, 256),
        dropout: float = 0.5,
        method: str | Mapping[str, Any] | Callable[..., Any] = "llp",
        lr: float = 0.005,
        weight_decay: float = 0.0,
        epochs: int = 200,
        patience: int = 50,
        batch_size: int | None = None,
        k: int = 20,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.method = method
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.k = k
        self.random_state = random_state

    def fit(
        self,
        X: Matrix,
        edges: Tensor,
        *,
        teacher: Callable[[Tensor], Tensor] | str | Mapping[str, Any] | None = None,
        validation: Ranked | None = None,
        monitor: Ranked | None = None,
    ) -> LinkStudent:
        """Train.

        Args:
            X: features `(n, F)`: array, table, memory-mapped array, scipy CSR or tensor.
            edges: `(2, E)` between rows of `X`, in either direction or both: all that is learnt from.
            teacher: from pairs `(2, *)` of rows of `X` to logits `(*)`; or a heuristic over the edges, by name or as
                `dict(type=name, **options)`, see `graphkd.links.HEURISTICS`; None trains on the edges alone.
            validation: to choose the best epoch by Hits@K, ties by AUC; without it the last is kept.
            monitor: that only `history_.oracle` is measured on.

        Raises:
            ValueError: a setting is out of range, a pair names a row that is not there, or there are too few edges or
                non-edges.
        """
        schedule = self.check_settings()
        method, options = resolve("method", "link_supervised" if teacher is None else self.method, LINK_RECIPES)
        X = self._read(X, reset=True)
        edges = _pairs("edges", edges, X.shape[0])
        if bool((edges[0] == edges[1]).all()):
            raise ValueError("all edges are from a node to itself: there is none to learn from")
        if isinstance(teacher, str | Mapping):
            teacher = Heuristic(teacher, edges, X.shape[0])
        evaluate = self._evaluation(validation, monitor)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network_ = link_network_of(method)(X.shape[1], self.hidden, self.dropout)
            loop = functools.partial(train, schedule=schedule, evaluate=evaluate, generator=generator)
            self.history_ = method(self.network_, LinkLesson(X, once(edges), loop, generator, teacher), **options)
        self.network_.eval()
        return self

    def check_settings(self) -> Schedule:
        """Check the settings and return the schedule of `fit`; raise the same errors as `fit`.

        Raises:
            ValueError: a number is out of range.
            KeyError: unknown method; names the nearest.
            TypeError: the method has no such option.
        """
        if not widths("hidden", self.hidden):
            raise ValueError("hidden must have at least one layer: the last width is that of a representation")
        real("dropout", self.dropout, 0, 1)
        whole("k", self.k, 1)
        resolve("method", self.method, LINK_RECIPES)
        check_seed(self.random_state)
        return Schedule(self.lr, self.weight_decay, self.epochs, self.patience, self.batch_size)

    def decision_function(self, X: Matrix, pairs: Tensor) -> np.ndarray:
        """Logits of being joined, `(P,)`, of pairs `(2, P)` of rows of `X`."""
        check_is_fitted(self)
        X = self._read(X)
        return _scores(self.network_, X, _pairs("pairs", pairs, X.shape[0])).numpy()

    def score(self, X: Matrix, edges: Tensor, non_edges: Tensor) -> float:
        """Hits@K of the edges among the non-edges."""
        edges, non_edges = _pairs("edges", edges, X.shape[0]), _pairs("non-edges", non_edges, X.shape[0])
        found = ranked(lambda pairs: torch.from_numpy(self.decision_function(X, pairs)), edges, non_edges)
        return hits(*found, whole("k", self.k, 1))

    def save(self, path: str | Path) -> None:
        """Write parameters, settings and names of columns to one safetensors file; no pickle.

        Warns:
            UserWarning: the method holds a function of your own, which is saved by name, see `StudentClassifier.save`.
        """
        check_is_fitted(self)
        in_features, hidden, dropout = self.network_.shape
        meta = {
            "in_features": in_features,
            "hidden": [*hidden],
            "dropout": dropout,
            "network": type(self.network_).__name__,
            "k": whole("k", self.k, 1),
            "settings": saved_settings(self.get_params(deep=False), LINK_RECIPES),
        }
        if hasattr(self, "feature_names_in_"):
            meta["feature_names"] = self.feature_names_in_.tolist()
        files.write(path, self.network_, "graphkd_links", meta)

    @classmethod
    def load(cls, path: str | Path) -> LinkStudent:
        """Read what `save` wrote: a student that scores the same, with the same settings.

        Raises:
            ValueError: the file is no saved student of links, or is damaged.
        """
        state, meta = files.read(path, "graphkd_links", "student of links")
        with files.rebuilding(path, "student of links"):
            student = cls(hidden=tuple(meta["hidden"]), dropout=meta["dropout"], k=meta["k"])
            loaded_settings(student, meta.get("settings", {}))
            student.n_features_in_ = meta["in_features"]
            if "feature_names" in meta:
                student.feature_names_in_ = np.array(meta["feature_names"], dtype=object)
            kinds = {each.__name__: each for each in (LinkMLP, *LINK_NETWORKS.values())}
            with torch.device("meta"):
                network = kinds[meta.get("network", "LinkMLP")]
                student.network_ = network(student.n_features_in_, meta["hidden"], meta["dropout"]).eval()
            student.network_.load_state_dict(state, assign=True)
        return student

    def _read(self, X: Any, reset: bool = False) -> Matrix:
        """Features as the network reads them: arrays may be on disk, whatever else is taken as a tensor."""
        if hasattr(X, "columns"):
            validate_data(self, X, reset=reset, skip_check_array=True)  # names of columns
            return _features(np.asarray(X, dtype=np.float32))
        validate_data(self, X if isinstance(X, np.ndarray) else as_array(X), reset=reset, skip_check_array=True)
        return _features(X)

    def _evaluation(self, validation: Ranked | None, monitor: Ranked | None) -> Callable[[], Evaluation]:
        """A function that ranks both sets of edges by the network as it is when called."""
        k = whole("k", self.k, 1)

        def prepared(name: str, given: Ranked | None) -> Ranked | None:
            if given is None:
                return None
            X = self._read(given[0])
            edges = _pairs(f"the edges of {name}", given[1], X.shape[0])
            non_edges = _pairs(f"the non-edges of {name}", given[2], X.shape[0])
            if non_edges.shape[1] < k:
                raise ValueError(f"Hits@{k} needs {k} non-edges; {name} has {non_edges.shape[1]}")
            return X, edges, non_edges

        def told(given: Ranked | None) -> tuple[Tensor, Tensor] | None:
            return given and ranked(functools.partial(_scores, self.network_, given[0]), *given[1:])

        selected, watched = prepared("validation", validation), prepared("monitor", monitor)

        def evaluate() -> Evaluation:
            chosen_by, oracle = told(selected), told(watched)
            return chosen_by and (hits(*chosen_by, k), auc(*chosen_by)), oracle and hits(*oracle, k)

        return evaluate


@torch.inference_mode()
def _scores(network: nn.Module, X: Matrix, pairs: Tensor) -> Tensor:
    """Logits `(P,)` of pairs `(2, P)`, in parts."""
    return torch.cat([network(X, part) for part in pairs.split(_SCORE_PAIRS, 1)])


def _features(X: Matrix) -> Matrix:
    """Features as the network reads them: arrays may be on disk, whatever else is taken as a tensor."""
    if isinstance(X, np.ndarray):
        check_finite(X, np.ones(len(X), dtype=bool), "the features")
        return X
    x = rows(X)
    if not (x.values() if x.layout is torch.sparse_csr else x).isfinite().all():
        raise ValueError("some of the features are NaN or infinite; impute or drop them first")
    return x


def _pairs(what: str, pairs: Any, count: int) -> Tensor:
    """Pairs `(2, P)` of rows, from a tensor or an array."""
    found = torch.as_tensor(pairs)
    if found.ndim != 2 or len(found) != 2 or found.is_floating_point() or found.dtype is torch.bool:
        raise ValueError(f"expected {what} as integers (2, P), got {found.dtype} {tuple(found.shape)}")
    if not found.numel():
        raise ValueError(f"{what} are empty; pass at least one pair")
    if int(found.min()) < 0 or int(found.max()) >= count:
        raise ValueError(
            f"{what} name rows from {int(found.min())} to {int(found.max())}; X has the rows 0 to {count - 1}"
        )
    return found.long()
