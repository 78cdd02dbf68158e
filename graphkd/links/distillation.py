"""Distill a link-prediction GNN into an MLP that predicts links without a graph: `distill_links` and its two steps."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from graphkd.data import Graph, one_way
from graphkd.data.graph import is_split
from graphkd.links.heuristics import HEURISTICS, Heuristic, is_heuristic
from graphkd.links.lesson import LinkLesson
from graphkd.links.metrics import auc, hits, mrr, ranked
from graphkd.links.network import LinkGNN
from graphkd.links.recipes import LINK_RECIPES
from graphkd.links.split import SPLITS, LinkSplit, of_parts
from graphkd.links.student import LinkStudent
from graphkd.pipeline.arguments import built, check_options, check_spec, checked_seed, name_of
from graphkd.pipeline.outcome import table
from graphkd.sparse.edges import both_ways
from graphkd.spec import plain, resolve
from graphkd.teachers import TEACHERS
from graphkd.training.latency import latency
from graphkd.training.loop import Evaluation, History, Schedule, rehearsal, train, with_own
from kdlosses.taps import at_rest

TeacherSpec = str | Mapping[str, Any] | Callable[..., nn.Module] | LinkGNN
MethodSpec = str | Mapping[str, Any] | Callable[..., Any]
Metrics = dict[str, dict[str, float]]

_MEASURES = ("hits", "auc", "mrr")
_WIDTH = 256  # of a teacher's representations, if not given


@dataclass
class LinkOutcome:
    """One trained model and its metrics on one split.

    Attributes:
        model: a `LinkGNN` or a `Heuristic` for a teacher, a `LinkStudent` for a student.
        hits: Hits@K by the kinds of test edges of the split.
        auc: area under the ROC curve, likewise.
        mrr: mean reciprocal rank, likewise.
        val: validation Hits@K, by which the epoch was chosen.
        oracle_test_best: the best Hits@K of any epoch on the test edges: what selecting on them would have reported.
        seconds: wall-clock time of the training.
        latency: milliseconds to score all pairs of the test, from features (and edges) in memory.
        score: of a teacher, logits of pairs of the nodes seen in training.
    """

    model: Any
    hits: dict[str, float]
    auc: dict[str, float]
    mrr: dict[str, float]
    val: float | None
    oracle_test_best: float | None
    seconds: float
    latency: float
    score: Callable[[Tensor], Tensor] | None = None


@dataclass
class LinkResult:
    """What `distill_links` returns.

    Attributes:
        student: the distilled student.
        hits: Hits@K of `teacher`, `control` and `student` by the kinds of test edges.
        auc: likewise.
        outcomes: by role, with models and the mean reciprocal rank.

    `print(result)` shows all as a table.
    """

    student: LinkStudent
    hits: Metrics
    auc: Metrics
    outcomes: dict[str, LinkOutcome]

    @property
    def metrics(self) -> Metrics:
        """By role, then by name: `hits`, `auc` and `mrr` of each kind of test edges."""
        return {
            role: {f"{name} {kind}": value for name in _MEASURES for kind, value in getattr(each, name).items()}
            for role, each in self.outcomes.items()
        }

    def __repr__(self) -> str:
        return table(self.metrics)


def distill_links(
    data: Any,
    teacher: TeacherSpec = "sage",
    method: MethodSpec = "llp",
    *,
    student: LinkStudent | None = None,
    split: str | Mapping[str, Any] | LinkSplit | Sequence[Any] = "tran",
    seed: int = 0,
) -> LinkResult:
    """Train a link-prediction GNN, distill it into a student, and train the same student without a teacher as control.

    Args:
        data: a `Graph`, a PyG `Data`, or anything with `x` and `edge_index`. Edges count in both directions, with a
            warning if some have no reverse; edge weights are refused.
        teacher: a builder of `graphkd.teachers` by name, as `dict(type=name, **options)` (options of the builder and of
            `Schedule`; `hidden` is the width of representations, too) or as a function, to be trained here; a heuristic
            of `graphkd.links.HEURISTICS`, by name or with options, over the same edges; or a trained `LinkGNN`, taken
            as it is, with a warning: it may have seen test edges.
        method: a recipe of `LINK_RECIPES` by name, as `dict(type=name, **options)` or as a function.
        student: with the settings wanted; its method and random state are replaced.
        split: one of `SPLITS` by name or as `dict(type=name, **options)`, or a split of one's own: a `LinkSplit`, or
            the three graphs that PyG's `RandomLinkSplit` returns.
        seed: of the split, the parameters and whatever is drawn.

    Raises:
        ValueError: graph and split do not fit together; raised before anything is trained.
        TypeError: student, teacher or seed is nothing of the kind; likewise.
        KeyError: unknown teacher, method or split; names the nearest.

    >>> from graphkd.data import digits
    >>> quick = LinkStudent(hidden=(64, 64), dropout=0.2, epochs=30, lr=0.01)
    >>> result = distill_links(digits(), dict(type="sage", hidden=64, epochs=60), student=quick)
    >>> sorted(result.hits), result.student.decision_function(digits().x, torch.tensor([[0, 0], [1, 2]])).shape
    (['control', 'student', 'teacher'], (2,))
    """
    seed, method, split = checked_seed(seed), plain(method), plain(split)
    check_spec("method", method)
    recipe, _ = resolve("method", method, LINK_RECIPES)
    student = LinkStudent() if student is None else student
    if not isinstance(student, LinkStudent):
        raise TypeError(f"student is a LinkStudent, got {type(student).__name__}")
    student.check_settings()
    if not isinstance(teacher, LinkGNN):
        parse_teacher(teacher)
    if isinstance(split, list | tuple) and len(split) == 3:
        split = of_parts(split)
    if not isinstance(split, LinkSplit):
        check_spec("split", split)
    view = split if isinstance(split, LinkSplit) else split_links(data, cast("str", split), seed)
    _check_k(view, student.k)
    if recipe in LINK_RECIPES.values():
        with rehearsal():  # finds what is wrong with its options before the teacher is trained
            train_link_student(view, lambda pairs: pairs[0].float(), method, student, seed)
    taught = train_link_teacher(view, teacher, seed, student.k)
    outcomes = {
        "teacher": taught,
        "control": train_link_student(view, None, method, student, seed),
        "student": train_link_student(view, taught.score, method, student, seed),
    }
    if taught.val is not None and taught.val <= (outcomes["control"].val or 0.0):
        warnings.warn(
            f"the teacher is no better than the student without one (Hits@{student.k} {taught.val:.3f} and "
            f"{outcomes['control'].val:.3f} in the validation): train it longer, choose another, or keep the control",
            stacklevel=2,
        )
    return LinkResult(
        outcomes["student"].model,
        {role: outcome.hits for role, outcome in outcomes.items()},
        {role: outcome.auc for role, outcome in outcomes.items()},
        outcomes,
    )


def split_links(data: Any, split: str | Mapping[str, Any] = "tran", seed: int = 0) -> LinkSplit:
    """Split the links of a graph, as `distill_links` does; labels of nodes are not needed."""
    deal, options = resolve("split", split, SPLITS)
    return deal(link_graph(data), seed, **options)


def link_graph(data: Any) -> Graph:
    """A graph for links, of which edges count in both directions and no labels are needed; weights are refused."""
    graph = data if isinstance(data, Graph) else Graph.of(_without_labels(data))
    if graph.edge_weight is not None:
        raise ValueError("the graph has edge_weight, which links do not use here; remove it")
    if count := one_way(graph):
        edges = graph.edge_index.shape[1]
        warnings.warn(f"{count} of {edges} edges have no reverse: they count in both directions", stacklevel=4)
    return graph


def _without_labels(data: Any) -> Any:
    """The same container with labels that stand for none, and without masks of nodes."""
    for key in ("x", "edge_index"):
        if getattr(data, key, None) is None:
            raise ValueError(f"the graph has no tensor {key!r}; expected x (N, F) and edge_index (2, E)")
    if getattr(data, "edge_label_index", None) is not None:
        raise ValueError(
            "the graph has edge_label_index, the pairs of one part of a split: pass all three parts of "
            "RandomLinkSplit as split=(train, val, test), or remove it"
        )
    fields = data.to_dict() if callable(getattr(data, "to_dict", None)) else getattr(data, "__dict__", {})
    kept = {key: value for key, value in fields.items() if key != "num_classes" and not is_split(str(key))}
    nodes = data.x.shape[0] if hasattr(data.x, "shape") else len(data.x)
    return SimpleNamespace(**{**kept, "x": data.x, "edge_index": data.edge_index, "y": np.arange(nodes) % 2})


def train_link_teacher(split: LinkSplit, teacher: TeacherSpec = "sage", seed: int = 0, k: int = 20) -> LinkOutcome:
    """Train a graph network on the training edges of the split, which are also its message-passing edges.

    A heuristic scores over the training edges, and in the test over those that messages may pass over.
    """
    seed = checked_seed(seed)
    _check_k(split, k)
    if is_heuristic(teacher):
        return _of_heuristic(split, cast("str | Mapping[str, Any]", teacher), k)
    x, known, visible = split.x_seen, both_ways(split.train), both_ways(split.visible)
    history = History()
    if isinstance(teacher, LinkGNN):
        network = teacher
        warnings.warn(
            "the given teacher has no record of its training edges: if it has seen test edges, all figures here are "
            "too high",
            stacklevel=2,
        )
    else:
        builder, options, schedule, width, dropout = parse_teacher(teacher)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = LinkGNN(built(builder, x.shape[1], width, options), width, dropout)

            @torch.inference_mode()
            def evaluate() -> Evaluation:
                chosen_by = ranked(lambda pairs: network(x, known, pairs), split.val, split.val_none)
                watched = ranked(lambda pairs: network(split.x, visible, pairs), split.all_tested, split.test_none)
                return (hits(*chosen_by, k), auc(*chosen_by)), hits(*watched, k)

            generator = torch.Generator().manual_seed(seed)
            loop = functools.partial(train, schedule=schedule, evaluate=evaluate, generator=generator)
            lesson = LinkLesson(x, split.train, loop, generator)

            def loss(batch: Tensor | slice) -> Tensor:
                return lesson.hard_loss(lambda pairs: network(x, known, pairs), batch)

            history = lesson.train(network, with_own(loss, network.encoder), len(lesson))
        network.eval()  # also after no epoch at all
    with torch.inference_mode(), at_rest(network):
        h = network.encoder(x, known)
        outcome = _outcome(network, lambda pairs: network(split.x, visible, pairs), split, history, k)
    outcome.score = torch.inference_mode()(lambda pairs: _scored(network.predictor, h, pairs))
    return outcome


def _of_heuristic(split: LinkSplit, spec: str | Mapping[str, Any], k: int) -> LinkOutcome:
    known = Heuristic(spec, split.train, len(split.seen))
    shown = Heuristic(spec, split.visible, len(split.x))
    outcome = _outcome(shown, shown, split, History(score=hits(*ranked(known, split.val, split.val_none), k)), k)
    outcome.score = known
    return outcome


def _check_k(split: LinkSplit, k: int) -> None:
    few = min(split.val_none.shape[1], split.test_none.shape[1])
    if k > few:
        raise ValueError(
            f"Hits@{k} needs {k} non-edges to rank edges among, the split has {few}; lower the student's k"
        )


def _scored(predictor: nn.Module, h: Tensor, pairs: Tensor) -> Tensor:
    with at_rest(predictor):
        return predictor(h, pairs)


def train_link_student(
    split: LinkSplit,
    teacher: Callable[[Tensor], Tensor] | None,
    method: MethodSpec = "llp",
    student: LinkStudent | None = None,
    seed: int = 0,
) -> LinkOutcome:
    """Train a student on the training edges of the split, with a teacher from pairs to logits or without."""
    seed, method = checked_seed(seed), plain(method)
    learner: LinkStudent = clone(student or LinkStudent())
    learner.set_params(method=method, random_state=seed)
    learner.fit(
        split.x_seen,
        split.train,
        teacher=teacher,
        validation=(split.x_seen, split.val, split.val_none),
        monitor=(split.x, split.all_tested, split.test_none),
    )
    return _outcome(learner, lambda pairs: learner.network_(split.x, pairs), split, learner.history_, learner.k)


def parse_teacher(teacher: Any) -> tuple[Callable[..., nn.Module], dict[str, Any], Schedule, int, float]:
    """Parse a teacher: builder, options, schedule, width and dropout of the predictor; a heuristic is not trained."""
    if is_heuristic(teacher):
        Heuristic(teacher, torch.tensor([[0], [1]]), 2)  # its options are checked
        return Heuristic, {}, Schedule(epochs=0), 0, 0.0
    options: dict[str, Any] = plain(dict(teacher)) if isinstance(teacher, Mapping) else {"type": teacher}
    kind = options.get("type")
    if isinstance(kind, nn.Module) or not (isinstance(kind, str) or callable(kind)):
        raise TypeError(
            "a teacher of links is a name of graphkd.teachers, dict(type=name, **options), a function (in_features, "
            f"width) -> Module or a trained LinkGNN; got {type(kind).__name__}"
        )
    wanted = {field.name: options.pop(field.name) for field in fields(Schedule) if field.name in options}
    try:
        builder, options = resolve("teacher", options, {**HEURISTICS, **TEACHERS})  # names the nearest of both
    except ValueError as error:  # it has no signature
        raise TypeError(f"the teacher {name_of(kind)!r} must be a function (in_features, width): {error}") from error
    if builder in TEACHERS.values():
        check_options(builder, options)
        options = {"hidden": _WIDTH, **options}
    schedule = Schedule(**{"lr": 0.005, "weight_decay": 0.0, "epochs": 200, **wanted})
    return builder, options, schedule, options.get("hidden", _WIDTH), options.get("dropout", 0.0)


def _outcome(model: Any, score: Callable[[Tensor], Tensor], split: LinkSplit, history: History, k: int) -> LinkOutcome:
    with torch.inference_mode():
        found = {kind: ranked(score, edges, split.test_none) for kind, edges in split.test.items()}
    return LinkOutcome(
        model,
        {kind: hits(*each, k) for kind, each in found.items()},
        {kind: auc(*each) for kind, each in found.items()},
        {kind: mrr(*each) for kind, each in found.items()},
        history.score,
        history.oracle,
        sum(history.seconds),
        latency(lambda: score(split.all_tested)),
    )
