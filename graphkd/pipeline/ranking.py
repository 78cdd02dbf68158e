"""Rank and search students by a training-free score, and check the ranking by training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import kendalltau
from sklearn.base import clone

from graphkd.data import Graph, Setting, make_setting, split_of
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.students.classifier import StudentClassifier
from kdlosses.rules.diswot import diswot
from kdlosses.rules.evolve import evolve


@dataclass(frozen=True)
class Ranking:
    """Candidates with their scores, and with their accuracies if they were trained.

    Attributes:
        hidden: widths of the hidden layers of each candidate.
        score: `diswot` of each, a mean over the seeds; the higher, the better.
        parameters: how many each has.
        accuracy: test accuracy of each as a trained student, a mean over the seeds; None if none was trained.
        tau: Kendall's rank correlation between the two, -1 to 1; 0 is what a dice would have.
        p: probability of one as far from 0, were they independent.
        size_tau: the same for the number of parameters instead of the score: what the score has to beat.
    """

    hidden: tuple[tuple[int, ...], ...]
    score: tuple[float, ...]
    parameters: tuple[int, ...]
    accuracy: tuple[float, ...] | None = None
    tau: float | None = None
    p: float | None = None
    size_tau: float | None = None

    @property
    def best(self) -> tuple[int, ...]:
        """The candidate of the highest score."""
        return self.hidden[self.score.index(max(self.score))]


def rank_students(
    graph: Graph,
    candidates: Sequence[Sequence[int]],
    teacher: str | Mapping[str, Any] = "sage",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    check: bool = False,
    method: Any = "glnn",
    student: StudentClassifier | None = None,
) -> Ranking:
    """Score MLPs of several widths and depths against an untrained teacher, see `kdlosses.rules.diswot`.

    All nodes are seen (the setting `tran`); of the labels only those of the training nodes are read.

    Args:
        graph: what the student is for.
        candidates: widths of the hidden layers, such as `[(16,), (64,), (64, 64)]`; `()` is a linear classifier.
        teacher: as in `distill`; its training options count only with `check`.
        seeds: initialisations and splits to average over.
        check: also train each candidate and report how well the scores rank the trained accuracies: many times as
            costly as the scores, and the only way to know what they are worth on this data.
        method: of that training.
        student: likewise; its hidden widths are replaced.

    Raises:
        ValueError: fewer than two candidates, or no seed.

    >>> from graphkd import digits
    >>> ranking = rank_students(digits(), [(8,), (256,)], seeds=[0])
    >>> ranking.best
    (256,)
    """
    hidden = tuple(tuple(widths) for widths in candidates)
    if len(hidden) < 2 or not seeds:
        raise ValueError(f"rank_students: at least two candidates and one seed, got {len(hidden)} and {len(seeds)}")
    spec, views = _spec(teacher), {seed: _view(graph, seed) for seed in seeds}
    score = tuple(map(_scorer(graph, spec, views), hidden))
    parameters = tuple(_parameters(graph, widths) for widths in hidden)
    if not check:
        return Ranking(hidden, score, parameters)
    accuracies: list[list[float]] = [[] for _ in hidden]
    for seed, view in views.items():
        trained = train_teacher(view, spec, seed)
        for found, widths in zip(accuracies, hidden):
            learner = clone(student or StudentClassifier(dropout=0.5, epochs=500)).set_params(hidden=widths)
            found.append(train_student(view, trained, method, learner, seed).metrics["tran"])
    accuracy = tuple(map(statistics.mean, accuracies))
    tau, p = kendalltau(score, accuracy)
    by_size = float(kendalltau(parameters, accuracy).statistic)
    return Ranking(hidden, score, parameters, accuracy, float(tau), float(p), by_size)


def search_students(
    graph: Graph,
    teacher: str | Mapping[str, Any] = "sage",
    *,
    widths: Sequence[int] = (8, 16, 32, 64, 128, 256),
    layers: int = 3,
    budget: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    seed: int = 0,
    **evolution: int | float,
) -> Ranking:
    """Search the MLP that is most like an untrained teacher, by evolution, before any is trained.

    Scores are those of `rank_students`; a student has up to so many hidden layers, each of one of the widths.

    Args:
        graph: what the student is for.
        teacher: as in `distill`.
        widths: of a hidden layer, to choose from.
        layers: hidden layers at most.
        budget: parameters at most.
        seeds: initialisations and splits to average over.
        seed: of the search.
        **evolution: population, generations, parents and mutation, see `kdlosses.rules.evolve`.

    Returns:
        the ranking of all candidates that were scored; `best` is what was searched.

    Raises:
        ValueError: no width, layer or seed, or a budget that no student keeps to.

    Paper: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023.

    >>> from graphkd import digits
    >>> found = search_students(digits(), budget=3_000, seeds=[0], population=4, generations=2)
    >>> max(found.parameters) <= 3_000
    True
    """
    if not widths or min(widths) < 1 or layers < 1 or not seeds:
        raise ValueError(
            f"search_students: widths and layers count from 1, with one seed or more; got {list(widths)}, {layers} and "
            f"{len(seeds)} seeds"
        )
    scored = _scorer(graph, _spec(teacher), {seed: _view(graph, seed) for seed in seeds})

    def hidden(one: Mapping[str, int]) -> tuple[int, ...]:
        depth, *found = one.values()
        return tuple(found[:depth])

    def allowed(one: Mapping[str, int]) -> bool:
        return budget is None or _parameters(graph, hidden(one)) <= budget

    space = {"depth": range(layers + 1), **{f"width {place}": widths for place in range(layers)}}
    options: dict[str, Any] = dict(allowed=allowed, same=hidden, seed=seed, **evolution)
    found = evolve(lambda one: scored(hidden(one)), space, **options)
    candidates = tuple(hidden(one) for one, _ in found.scored)
    sizes = tuple(_parameters(graph, each) for each in candidates)
    return Ranking(candidates, tuple(value for _, value in found.scored), sizes)


def _spec(teacher: str | Mapping[str, Any]) -> dict[str, Any]:
    return dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}


def _view(graph: Graph, seed: int) -> Setting:
    return make_setting(graph, split_of(graph, seed), "tran", seed)


def _parameters(graph: Graph, hidden: Sequence[int]) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in MLP(graph.x.shape[1], hidden, graph.num_classes).parameters())


def _scorer(graph: Graph, teacher: Mapping[str, Any], views: Mapping[int, Setting]) -> Callable[[Sequence[int]], float]:
    """What scores an MLP with these hidden layers, a mean over the seeds, against the teacher untrained."""
    known = {}
    for seed, view in views.items():
        labels = torch.full((len(graph),), -1)
        labels[view.train] = view.seen.y[view.train]
        untrained = train_teacher(view, {**teacher, "epochs": 0, "tune": None}, seed).cache
        assert untrained is not None
        last = torch.from_numpy(untrained.hidden[-1]) if untrained.hidden else graph.x.to_dense()
        known[seed] = (last, torch.from_numpy(untrained.logits)), labels

    def score(hidden: Sequence[int]) -> float:
        found = []
        for seed, (theirs, labels) in known.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = MLP(graph.x.shape[1], hidden, graph.num_classes).eval()
            outputs = network.outputs(graph.x)
            features = outputs[-2] if hidden else graph.x
            found.append(diswot((features.to_dense(), outputs[-1]), theirs, labels).item())
        return statistics.mean(found)

    return score
