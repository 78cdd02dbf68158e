"""Rank candidate students by a training-free score, and check the ranking by training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import kendalltau
from sklearn.base import clone

from graphkd.data import Graph, make_setting, split_of
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.rules.diswot import diswot
from graphkd.students.classifier import StudentClassifier


@dataclass(frozen=True)
class Ranking:
    """Candidates with their scores, and with their accuracies if they were trained.

    Attributes:
        hidden: widths of the hidden layers of each candidate.
        score: `diswot` of each, a mean over the seeds; the higher, the better.
        accuracy: test accuracy of each as a trained student, a mean over the seeds; None if none was trained.
        tau: Kendall's rank correlation between the two, -1 to 1; 0 is what a dice would have.
        p: probability of one as far from 0, were they independent.
        size_tau: the same for the number of parameters instead of the score: what the score has to beat.
    """

    hidden: tuple[tuple[int, ...], ...]
    score: tuple[float, ...]
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
    """Score MLPs of several widths and depths against an untrained teacher, see `graphkd.rules.diswot`.

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
    spec = dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}
    scores: list[list[float]] = [[] for _ in hidden]
    accuracies: list[list[float]] = [[] for _ in hidden]
    sizes = [0 for _ in hidden]
    for seed in seeds:
        view = make_setting(graph, split_of(graph, seed), "tran", seed)
        labels = torch.full((len(graph),), -1)
        labels[view.train] = view.seen.y[view.train]
        untrained = train_teacher(view, {**spec, "epochs": 0, "tune": None}, seed).cache
        assert untrained is not None
        last = torch.from_numpy(untrained.hidden[-1]) if untrained.hidden else graph.x.to_dense()
        theirs = (last, torch.from_numpy(untrained.logits))
        trained = train_teacher(view, spec, seed) if check else None
        for place, widths in enumerate(hidden):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = MLP(graph.x.shape[1], widths, graph.num_classes).eval()
            outputs = network.outputs(graph.x)
            sizes[place] = sum(parameter.numel() for parameter in network.parameters())
            features = outputs[-2] if widths else graph.x
            scores[place].append(diswot((features.to_dense(), outputs[-1]), theirs, labels).item())
            if check:
                learner = clone(student or StudentClassifier(dropout=0.5, epochs=500)).set_params(hidden=widths)
                accuracies[place].append(train_student(view, trained, method, learner, seed).metrics["tran"])
    score = tuple(statistics.mean(values) for values in scores)
    if not check:
        return Ranking(hidden, score)
    accuracy = tuple(statistics.mean(values) for values in accuracies)
    tau, p = kendalltau(score, accuracy)
    return Ranking(hidden, score, accuracy, float(tau), float(p), float(kendalltau(sizes, accuracy).statistic))
