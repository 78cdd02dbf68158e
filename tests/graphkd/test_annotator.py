"""The annotator: what is asked about, by brute force; that nothing else is read; and what a student makes of it."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from sklearn.cluster import KMeans
from torch import Tensor, nn

from graphkd import Cache, Graph
from graphkd.data import cpf_split, make_setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes.annotator import _clustered, _rank, annotator
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, Schedule, train

CONTRACT = RecipeContract(
    "annotator",
    learns_less="the most probable classes of a tenth of the nodes",
    more_outputs="its teacher is a table of answers",
)

NODES = 240


def blobs(noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Points in four directions, some of them far from all, and which direction it is."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(NODES) % 4
    spread = noise * (1 + 4 * torch.rand(NODES, 1, generator=draw))
    return torch.eye(4, 6)[y] + spread * torch.randn(NODES, 6, generator=draw), y


def lesson_of(x: Tensor, teacher: Tensor, epochs: int = 1, lr: float = 0.01, seed: int = 0) -> Lesson:
    generator, clock = torch.Generator().manual_seed(seed), Clock()
    loop = functools.partial(train, schedule=Schedule(lr=lr, epochs=epochs), generator=generator, clock=clock)
    return Lesson(x, torch.full((len(x),), -1), loop, generator, teacher, hidden=[x], clock=clock)


def network(classes: int = 4) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(6, (16,), classes)


def guesses(y: Tensor, spread: float = 1.5) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return spread * torch.randn(len(y), 4, generator=draw) + 3 * nn.functional.one_hot(y, 4)


def test_clusters_are_those_of_k_means_from_far_rows() -> None:
    x, _ = blobs(0.3)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    start = [int(((unit - unit.mean(0)) ** 2).sum(1).argmin())]
    for _ in range(4):
        start.append(int(np.min([((unit - unit[k]) ** 2).sum(1) for k in start], 0).argmax()))
    group, density = _clustered(lesson_of(x, x), 5, torch.double)
    found = KMeans(5, init=unit[start], n_init=1, max_iter=10, tol=0).fit(unit)
    assert np.array_equal(group.numpy(), found.labels_)
    far = np.linalg.norm(unit - found.cluster_centers_[found.labels_], axis=1)
    np.testing.assert_allclose(density.numpy(), 1 / (1 + far), atol=2e-3)


def test_rank_is_the_share_that_has_less() -> None:
    assert _rank(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [0.5, 0.0, 0.5, 0.25]


def test_the_first_round_asks_about_the_densest_of_clusters_by_their_size() -> None:
    x, y = blobs(0.3)
    lesson = lesson_of(x, guesses(y))
    history = annotator(network(), lesson, budget=0.15, rounds=1, clusters=7)
    group, density = (each.numpy() for each in _clustered(lesson, 7, torch.float32))
    size, seats = np.bincount(group, minlength=7), np.zeros(7)
    for _ in range(36):  # seat by seat to whom it is due most
        seats[(size / (2 * seats + 1)).argmax()] += 1
    expected = [
        k for c in range(7) for k in sorted(np.flatnonzero(group == c), key=lambda k: -density[k])[: int(seats[c])]
    ]
    assert sorted(history.asked.tolist()) == sorted(expected)


def test_the_next_round_returns_to_where_the_student_is_told_that_it_errs() -> None:
    """A student that does not learn says one class all the time; in two of four clusters the annotator says another."""
    x, y = blobs(0.02)
    model = network()
    with torch.no_grad():
        model.layers[-1].bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    teacher = 5.0 * nn.functional.one_hot(torch.where(y < 2, 0, y), 4)
    lesson = lesson_of(x, teacher, epochs=3, lr=0.0)
    history = annotator(model, lesson, budget=0.5, rounds=2, every=1, clusters=4, drop=0.0)
    first, second = (torch.bincount(y[part], minlength=4) for part in history.asked.split(60))
    assert first.tolist() == [15, 15, 15, 15]
    assert second[:2].sum() < 8
    assert second[2:].tolist() == pytest.approx([28, 28], abs=4)


def test_the_student_s_doubt_decides_where_it_counts_alone() -> None:
    x, y = blobs(0.3)
    model = network()
    lesson = lesson_of(x, guesses(y), epochs=3, lr=0.0)
    history = annotator(model, lesson, budget=0.2, rounds=2, every=1, clusters=1, doubt=1.0)
    first, second = history.asked.split(24)
    top = model(x).softmax(1).topk(2).values
    margin = (top[:, 0] - top[:, 1]).detach()
    left = torch.tensor([k for k in range(NODES) if k not in first.tolist()])
    assert set(second.tolist()) == set(left[margin[left].argsort()[:24]].tolist())


@pytest.mark.parametrize("select", ["active", "random"])
@pytest.mark.parametrize("batch_size", [None, 50])
def test_the_budget_is_kept_and_no_other_row_is_read(select: Any, batch_size: int | None) -> None:
    x, y = blobs()
    outcomes = []
    teacher = guesses(y)
    for _ in range(2):
        model = network()
        lesson = lesson_of(x, teacher, epochs=8)
        schedule = Schedule(epochs=8, batch_size=batch_size)
        lesson = replace(lesson, train=functools.partial(lesson.train, schedule=schedule), batch_size=batch_size)
        history = annotator(model, lesson, budget=0.23, rounds=3, every=2, select=select)
        assert len(history.asked.unique()) == len(history.asked) == round(0.23 * NODES)
        outcomes.append((history.asked, model(x)))
        teacher = torch.full_like(teacher, torch.nan).index_copy(0, history.asked, teacher[history.asked])
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])


def test_the_least_sure_of_each_class_are_left_out_and_are_wrong_more_often() -> None:
    x, y = blobs()
    teacher = guesses(y)
    history = annotator(network(), lesson_of(x, teacher), budget=0.5, rounds=1, drop=0.4, select="random")
    p = teacher.double().softmax(1).numpy()
    named, sure = p.argmax(1), p.max(1)
    asked, kept = history.asked.numpy(), history.kept.numpy()
    for c in range(4):
        mine = asked[named[asked] == c]
        best = mine[np.argsort(-sure[mine])][: len(mine) - round(0.4 * len(mine))]
        assert set(best) == set(kept[named[kept] == c])
    right = named == y.numpy()
    assert right[kept].mean() > right[asked].mean() + 0.03


def test_random_choice_follows_the_seed() -> None:
    x, y = blobs()
    one, same, other = (
        annotator(network(), lesson_of(x, guesses(y), seed=seed), select="random").asked.tolist() for seed in (0, 0, 1)
    )
    assert one == same
    assert set(one) != set(other)


def test_the_loss_weighs_each_label_by_how_sure_it_is() -> None:
    x, y = blobs()
    teacher, model, kept = guesses(y), network(), []
    lesson = lesson_of(x, teacher)

    def one_step(trained: nn.Module, loss: Any, count: int) -> Any:
        kept.append(loss(slice(None)).item())
        return lesson.train(trained, loss, count)

    before = model(x).double().log_softmax(1).detach().numpy()
    history = annotator(model, replace(lesson, train=one_step))
    p = teacher.double().softmax(1).numpy()[history.kept.numpy()]
    each = [-before[node, row.argmax()] for node, row in zip(history.kept.tolist(), p)]
    assert kept[0] == pytest.approx(np.average(each, weights=p.max(1)), rel=1e-5)


def test_a_graph_network_told_no_true_label_knows_more_than_its_annotator(papers: Graph) -> None:
    setting = make_setting(papers, cpf_split(papers.y, 0), "tran", 0)
    draw = np.random.default_rng(0)
    logits = 1.3 * draw.normal(size=(len(papers), 4)) + 2 * np.eye(4)[papers.y]
    words = np.eye(4)[papers.y] + 0.5 * draw.normal(size=(len(papers), 4))
    seen = np.ones(len(papers), dtype=bool)
    cache = Cache(logits, np.arange(len(papers)), seen, papers.fingerprint(), (words,))
    spec = dict(type="hopwise", hidden=32, epochs=40, patience=40, source=cache)
    own = float((logits.argmax(1) == papers.y.numpy())[setting.test.numpy()].mean())
    active, drawn = (
        train_teacher(setting, {**spec, "method": dict(type="annotator", budget=0.5, every=5, **options)}).metrics[
            "tran"
        ]
        for options in (dict(drop=0.5), dict(select="random", drop=0.0))
    )
    assert active > own + 0.05
    assert active > drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(budget=0), r"shares are budget in \(0, 1\]"),
        (dict(drop=1.0), r"shares are budget in \(0, 1\], drop in \[0, 1\)"),
        (dict(rounds=0), "rounds, every and clusters count from 1, got 0"),
        (dict(select="all"), "select is 'active' or 'random', not 'all'"),
        (dict(lam=2), "lam is the weight of the labels"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match=message):
        annotator(network(), lesson_of(x, guesses(y)), **options)
