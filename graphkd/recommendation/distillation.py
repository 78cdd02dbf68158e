"""Distill a recommender into one with few edges and entries: `distill_recommender` and its two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.pipeline.arguments import check_spec, checked_seed
from graphkd.pipeline.outcome import table
from graphkd.recommendation.files import load_parts
from graphkd.recommendation.interactions import Interactions
from graphkd.recommendation.lesson import RecommendationLesson, Target
from graphkd.recommendation.metrics import best, recall_ndcg
from graphkd.recommendation.network import Teacher, WeightedGCN
from graphkd.recommendation.recipes import RECOMMENDATION_RECIPES
from graphkd.recommendation.recommender import Recommender
from graphkd.recommendation.split import Parts, divided
from graphkd.spec import plain, real, resolve, whole
from graphkd.training.latency import latency
from graphkd.training.loop import Evaluation, History, Schedule, rehearsal, train
from kdlosses.options import check_known

MethodSpec = str | Mapping[str, Any] | Callable[..., Any]

_SHAPE = {"layers": 8, "width": 64}
_SCHEDULE = {"lr": 0.001, "weight_decay": 1e-6, "epochs": 300, "patience": 20, "batch_size": 4096}
_LEFT = {"layers": 2, "edges": 0.2, "entries": 0.1, "runs": 10, "epochs": 30}


@dataclass
class RecommendationOutcome:
    """One trained recommender, and what it is worth.

    Attributes:
        model: the recommender.
        recall: Recall@K of the test.
        ndcg: NDCG@K likewise.
        val: validation Recall@K, by which the epoch was chosen.
        edges: share of the edges that are left.
        entries: share of the entries of the embedding that are left.
        bytes: see `Recommender.bytes`.
        seconds: wall-clock time of the training steps.
        latency: milliseconds to spread the embeddings over the edges and to rank all items for all users.
        layers: of a teacher, its embeddings layer by layer.
    """

    model: Recommender
    recall: float
    ndcg: float
    val: float | None
    edges: float
    entries: float
    bytes: int
    seconds: float
    latency: float
    layers: list[Tensor] | None = None


@dataclass
class RecommendationResult:
    """What `distill_recommender` returns.

    Attributes:
        student: the distilled student.
        outcomes: of `teacher`, `control` and `student`, with models.

    `print(result)` shows all as a table.
    """

    student: Recommender
    outcomes: dict[str, RecommendationOutcome]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """By role: `recall`, `ndcg`, the shares of `edges` and `entries` that are left, `bytes` and `latency`."""
        names = ("recall", "ndcg", "edges", "entries", "bytes", "latency")
        return {role: {name: getattr(each, name) for name in names} for role, each in self.outcomes.items()}

    def __repr__(self) -> str:
        return table(self.metrics)


def distill_recommender(
    data: str | Mapping[str, Any] | Interactions | Parts,
    teacher: Mapping[str, Any] | None = None,
    method: MethodSpec = "lightgnn",
    *,
    student: Mapping[str, Any] | None = None,
    k: int = 20,
    seed: int = 0,
) -> RecommendationResult:
    """Train LightGCN on who has what, distill it into a student of few edges and entries, and prune one untaught.

    Args:
        data: a data set of `load_parts` by name or as `dict(type=name, **options)`, for example `dict(type="file",
            train="pairs.tsv")`; `Interactions`, of which parts are drawn; or `Parts`.
        teacher: options: its `layers` and `width`, and those of `Schedule`.
        method: a recipe of `RECOMMENDATION_RECIPES` by name, as `dict(type=name, **options)` or as a function.
        student: options: its `layers`, the shares of `edges` and `entries` that are left, after how many `runs`, and
            those of `Schedule`, whose epochs are those of one run. Teacher and student have one width.
        k: K of Recall@K and NDCG@K. The epoch is chosen by both on the validation part.
        seed: of what is drawn.

    Raises:
        ValueError: a number is out of range, K is above the number of items, or the data do not fit; before anything is
            trained.
        KeyError: unknown data or method; names the nearest.
        TypeError: no such option.

    >>> small = dict(layers=2, width=8, epochs=2)
    >>> quick = dict(type="lightgnn", layers=2, triples=50)
    >>> result = distill_recommender("blocks", small, quick, student=dict(epochs=1))
    >>> sorted(result.outcomes), round(result.metrics["student"]["edges"], 1), result.metrics["student"]["entries"]
    (['control', 'student', 'teacher'], 0.2, 0.1)
    """
    seed, method = checked_seed(seed), plain(method)
    check_spec("method", method)
    parse_teacher(teacher)
    parse_student(student)
    parts = as_parts(data, seed)
    check_k(parts, k)
    rehearse(parts, teacher, method, student, k, seed)
    taught = train_recommendation_teacher(parts, teacher, k, seed)
    assert taught.layers is not None
    outcomes = {
        "teacher": taught,
        "control": train_recommender(parts, taught.layers, "pruned_supervised", student, k, seed),
        "student": train_recommender(parts, taught.layers, method, student, k, seed),
    }
    return RecommendationResult(outcomes["student"].model, outcomes)


def as_parts(data: Any, seed: int = 0, root: str | Path | None = None) -> Parts:
    """The parts of whatever `distill_recommender` takes as data."""
    if isinstance(data, Parts):
        return data
    if isinstance(data, Interactions):
        return divided(data, seed=seed)
    if not isinstance(data, str | Mapping):
        raise TypeError(
            f"data are a name, dict(type=name, **options), Interactions or Parts; got {type(data).__name__}"
        )
    return load_parts(data, seed, root)


def rehearse(
    parts: Parts,
    teacher: Mapping[str, Any] | None,
    method: MethodSpec,
    student: Mapping[str, Any] | None,
    k: int,
    seed: int,
) -> None:
    """Raise what is wrong with a method of ours by its first step, before the teacher is trained."""
    recipe, _ = resolve("method", method, RECOMMENDATION_RECIPES)
    shape, _ = parse_teacher(teacher)
    if recipe in RECOMMENDATION_RECIPES.values():
        with rehearsal():
            nothing = [torch.zeros(parts.users + parts.items, shape["width"])] * (1 + shape["layers"])
            train_recommender(parts, nothing, method, student, k, seed)


def check_k(parts: Parts, k: Any) -> int:
    """Return K; raise ValueError if there are not so many items."""
    k = whole("k", k, 1)
    if k > parts.items:
        raise ValueError(f"k is {k}, and there are {parts.items} items: lower k")
    full = torch.bincount(parts.train[0], minlength=parts.users) >= parts.items
    if full.any():
        user = parts.known.users[int(full.int().argmax())]
        raise ValueError(f"user {user!r} has all {parts.items} items: nothing is left to recommend; leave the user out")
    return k


def parse_teacher(spec: Mapping[str, Any] | None) -> tuple[dict[str, int], Schedule]:
    """Layers and width of a teacher, and its schedule; raise for what is wrong with them."""
    options = _options("teacher", spec, {"type": "lightgcn", **_SHAPE, **_SCHEDULE})
    if options["type"] != "lightgcn":
        raise KeyError(f"no teacher of recommenders is called {options['type']!r}; known: 'lightgcn'")
    return {name: whole(f"{name} of the teacher", options[name], 1) for name in _SHAPE}, _schedule(options)


def parse_student(spec: Mapping[str, Any] | None) -> tuple[int, Target, Schedule]:
    """Layers of a student, what is to be left of it, and the schedule of a run; raise for what is wrong with them."""
    options = _options("student", spec, {**_SCHEDULE, **_LEFT})
    for name in ("edges", "entries"):
        if not 0 < real(name, options[name]) <= 1:
            raise ValueError(f"{name} is the share that is left, above 0 and at most 1, got {options[name]!r}")
    target = Target(float(options["edges"]), float(options["entries"]), whole("runs", options["runs"], 1))
    return whole("layers of the student", options["layers"], 1), target, _schedule(options)


def _options(what: str, spec: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    if spec is not None and not isinstance(spec, Mapping):
        raise TypeError(f"{what} is a dict of options, got {spec!r}")
    options = plain(dict(spec or {}))
    check_known(what, options, defaults)
    return {**defaults, **options}


def _schedule(options: Mapping[str, Any]) -> Schedule:
    return Schedule(**{field.name: options[field.name] for field in fields(Schedule)})


def train_recommendation_teacher(
    parts: Parts, teacher: Mapping[str, Any] | None = None, k: int = 20, seed: int = 0
) -> RecommendationOutcome:
    """Train PyG's LightGCN on the pairs to learn from."""
    shape, schedule = parse_teacher(teacher)
    lesson = _lesson(parts, check_k(parts, k), schedule, Target(), None, checked_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Teacher(lesson.ties, shape["width"], shape["layers"])
        history = lesson.loop(network, lambda batch: lesson.hard_loss(network(), batch))
    with torch.no_grad():
        layers = [each.detach() for each in network.spread()]
        return _outcome(parts, network.plain(), history, k, layers)


def train_recommender(
    parts: Parts,
    teacher: list[Tensor] | None,
    method: MethodSpec = "lightgnn",
    student: Mapping[str, Any] | None = None,
    k: int = 20,
    seed: int = 0,
) -> RecommendationOutcome:
    """Train and prune a student, with the embeddings of a teacher's layers or without."""
    recipe, options = resolve("method", plain(method), RECOMMENDATION_RECIPES)
    layers, target, schedule = parse_student(student)
    nodes = parts.users + parts.items
    if teacher is not None and not (isinstance(teacher, list) and {len(each) for each in teacher} == {nodes}):
        raise ValueError(
            f"teacher is a list of embeddings ({nodes}, width), those of its layers on the same pairs: take `layers` "
            "of what train_recommendation_teacher returns"
        )
    width = _SHAPE["width"] if teacher is None else teacher[0].shape[1]
    lesson = _lesson(parts, check_k(parts, k), schedule, target, teacher, checked_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = WeightedGCN(lesson.ties, width, layers)
        history = recipe(network, lesson, **options)
    return _outcome(parts, network, history, k)


def _lesson(
    parts: Parts, k: int, schedule: Schedule, target: Target, teacher: list[Tensor] | None, seed: int
) -> RecommendationLesson:
    """The lesson of these parts; the epoch is chosen by the validation part."""
    edges = torch.stack([parts.train[0], parts.users + parts.train[1]])
    generator = torch.Generator().manual_seed(seed)

    def loop(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], epochs: int | None = None) -> History:
        def evaluate() -> Evaluation:
            with torch.inference_mode():
                users, items = model().split([parts.users, parts.items])
            return recall_ndcg(users, items, parts.train, parts.val, k), None

        own = schedule if epochs is None else replace(schedule, epochs=epochs)
        return train(model, loss, edges.shape[1], schedule=own, evaluate=evaluate, generator=generator)

    return RecommendationLesson(edges, parts.users, parts.users + parts.items, loop, generator, target, teacher)


def _outcome(
    parts: Parts, network: WeightedGCN, history: History, k: int, layers: list[Tensor] | None = None
) -> RecommendationOutcome:
    model = Recommender(parts.known.users, parts.known.items, network, parts.known.pairs)
    everyone = torch.arange(parts.users)

    def ranked() -> Tensor:
        model.spread()
        return best(model.user_embeddings, model.item_embeddings, model.seen, everyone, k)

    recall, ndcg = recall_ndcg(model.user_embeddings, model.item_embeddings, model.seen, parts.test, k)
    return RecommendationOutcome(
        model,
        recall,
        ndcg,
        history.score,
        len(network.kept) / parts.train.shape[1],
        int(network.mask.sum()) / network.mask.numel(),
        model.bytes,
        sum(history.seconds),
        latency(ranked),
        layers,
    )
