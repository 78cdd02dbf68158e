"""SALE-MLP: node2vec's walks, the loss on their pairs, and embeddings of nodes that come without edges."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from sklearn.metrics import roc_auc_score
from torch import Tensor

from graphkd import Cache, Graph, StudentClassifier, distill
from graphkd.data import Setting, cpf_split, digits, make_setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.recipes import sale_mlp
from graphkd.recipes.registry import check_method
from graphkd.recipes.sale_mlp import pairs, walk_loss, walked
from graphkd.sparse.rows import rows
from graphkd.sparse.walks import Walks
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, Schedule, train

CONTRACT = RecipeContract("sale_mlp", options=dict(structure=0.1, pretrain=2), undrawn=dict(structure=0.0))

KITE = torch.tensor([[0, 0, 1, 2, 3, 1, 2, 2, 3, 4], [1, 2, 2, 3, 4, 0, 0, 1, 2, 3]])
"""A triangle 0, 1, 2 with a tail 2, 3, 4, in both directions."""


@pytest.mark.parametrize(("back", "away"), [(0.25, 4.0), (4.0, 0.25), (1.0, 2.0)])
def test_a_walk_goes_on_with_the_chances_of_node2vec(back: float, away: float) -> None:
    walks = Walks(KITE, 5).walk(torch.full((40_000,), 1), 2, torch.Generator().manual_seed(0), back, away)
    came = walks[walks[:, 0] == 2, 1]  # from 1 to 2: back to 1, to 0 that 1 is joined to, or away to 3
    weight = np.array([1.0, 1 / back, 0.0, 1 / away, 0.0])
    expected = weight / weight.sum()
    found = np.bincount(came.numpy(), minlength=5) / len(came)
    np.testing.assert_allclose(found, expected, atol=0.012)  # 20,000 draws: 3.4 standard deviations


def test_equal_chances_are_the_uniform_walk_and_a_node_without_edges_stays() -> None:
    starts = torch.arange(6).repeat(50)
    one, other = (
        Walks(KITE, 6).walk(starts, 5, torch.Generator().manual_seed(1), *options) for options in ((), (1.0, 1.0))
    )
    assert torch.equal(one, other)
    biased = Walks(KITE, 6).walk(starts, 5, torch.Generator().manual_seed(1), 0.5, 2.0)
    assert (biased[starts == 5] == 5).all()
    joined = {(5, 5), *map(tuple, KITE.T.tolist())}
    steps = torch.cat([starts[:, None], biased], 1)
    assert {(a, b) for row in steps.tolist() for a, b in itertools.pairwise(row)} <= joined


def test_pairs_are_near_each_other_on_a_walk() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.stack([torch.arange(12) + 20 * node for node in range(3)])[:, None, :]  # a walk is a line
    u, v = pairs(table, torch.tensor([0, 2]), 500, 3, generator)
    assert set((v - u).tolist()) == {1, 2, 3}
    assert set((u // 20).tolist()) == {0, 2}
    assert set((u % 20).tolist()) == set(range(11))
    u, v = pairs(torch.zeros(3, 1, 4).long(), torch.arange(3), 5, 2, generator)
    assert len(u) == len(v) == 0  # a walk that stays makes no pair


def test_the_walk_loss_by_hand() -> None:
    g = torch.randn(9, 4, dtype=torch.float64)
    u, v, n = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 8]), torch.tensor([[4, 5], [6, 7], [0, 0]])
    z = g.numpy()
    near = [np.log1p(np.exp(-z[a] @ z[b])) for a, b in zip(u, v)]
    far = [np.log1p(np.exp(z[a] @ z[b])) for a, row in zip(u, n) for b in row]
    assert walk_loss(g, u, v, n).item() == pytest.approx(np.mean(near) + np.mean(far))
    assert walk_loss(g, u[:0], v[:0], n[:0]).item() == 0


@pytest.fixture(scope="module")
def view(papers: Graph) -> Setting:
    return make_setting(papers, cpf_split(papers.y, 0), "ind", 0)


def logits_of(view: Setting) -> np.ndarray:
    """A teacher that knows the classes of most nodes; of hidden ones it says nothing."""
    noise = torch.randn(len(view.whole), 4, generator=torch.Generator().manual_seed(1))
    logits = (noise + 2 * torch.nn.functional.one_hot(view.whole.y, 4)).numpy()
    logits[view.unseen] = np.nan
    return logits


def lesson_of(view: Setting, epochs: int, edges: Tensor | None = None) -> Lesson:
    seen, generator = view.seen, torch.Generator().manual_seed(0)
    clock = Clock()
    loop = functools.partial(train, schedule=Schedule(epochs=epochs), generator=generator, clock=clock)
    teacher = torch.from_numpy(logits_of(view))[view.observed]
    labels = torch.full((len(seen),), -1).index_copy(0, view.train, seen.y[view.train])
    return Lesson(seen.x, labels, loop, generator, teacher, seen.edge_index if edges is None else edges, clock=clock)


def hidden_of(view: Setting, **options: Any) -> Tensor:
    """The last hidden layer of all nodes, of a student that is taught by a teacher without any knowledge."""
    lesson = lesson_of(view, 60)
    lesson.teacher.zero_()  # type: ignore[union-attr]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MLP(view.whole.x.shape[1], (32,), 4)
        sale_mlp(model, lesson, **options)
    return model.outputs(rows(view.whole.x))[-2].detach()


def test_nodes_that_are_joined_come_to_lie_near_each_other(view: Setting) -> None:
    """Edges are ranked above pairs at random by the cosine of what the student makes of the features."""
    source, target = view.whole.edge_index
    a, b = source[source < target], target[source < target]
    c = torch.randint(len(view.whole), (len(b),), generator=torch.Generator().manual_seed(5))
    truth, found = np.repeat([1, 0], len(a)), {}
    for structure in (2.5, 0.0):
        h = hidden_of(view, structure=structure)
        h = torch.nn.functional.normalize(h - h.mean(0), dim=1)
        found[structure] = roc_auc_score(truth, torch.cat([(h[a] * h[b]).sum(1), (h[a] * h[c]).sum(1)]).numpy())
    assert found[2.5] > found[0.0] + 0.1, found


def test_walks_raise_the_accuracy_on_nodes_without_edges(view: Setting) -> None:
    logits = logits_of(view)
    observed = ~np.isnan(logits).all(1)
    cache = Cache(logits, view.whole.node_id.numpy(), observed, view.whole.fingerprint())
    student = StudentClassifier((32,), dropout=0.3, epochs=60)
    with_walks, without = (
        train_student(view, cache, dict(type="sale_mlp", structure=structure, lam=0.0), student)
        for structure in (1.0, 0.0)
    )
    assert with_walks.metrics["cold"] == with_walks.metrics["ind"]  # the student reads no edge
    assert with_walks.metrics["cold"] > without.metrics["cold"]


@pytest.mark.parametrize("batch_size", [None, 200])
def test_without_the_walks_it_is_glnn(view: Setting, batch_size: int | None) -> None:
    logits = logits_of(view)[view.observed]
    outputs = []
    for method in (dict(type="sale_mlp", structure=0.0, lam=0.3), dict(type="glnn", lam=0.3)):
        student = StudentClassifier((8,), 0.2, method, epochs=4, batch_size=batch_size, random_state=0)
        student.fit(view.seen.x, view.seen.y, teacher=logits, edge_index=view.seen.edge_index, labelled=view.train)
        outputs.append(student.predict_proba(view.seen.x))
    assert np.array_equal(*outputs)


def test_the_walks_come_first_and_labels_and_teacher_after_them(view: Setting) -> None:
    """In the first epochs neither moves the output layer."""
    lesson = lesson_of(view, 3)
    model = MLP(view.whole.x.shape[1], (8,), 4)
    before = [each.clone() for each in model.parameters()]
    with pytest.warns(
        UserWarning, match="of 3 epochs the one that was kept, 2, is of the first 3, which learn from walks"
    ):
        sale_mlp(model, lesson, pretrain=3, lam=0.5)
    *body, weight, bias = (not torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert body == [True, True]
    assert (weight, bias) == (False, False)
    sale_mlp(model, lesson, pretrain=2, lam=0.5)
    assert not torch.equal(before[-1], [*model.parameters()][-1])


def test_walks_start_at_each_node_and_a_graph_without_edges_has_no_pairs(view: Setting) -> None:
    table = walked(lesson_of(view, 0), 2, 5, 1.0, 0.5)
    assert table.shape == (len(view.seen), 2, 5)
    assert (table[:, :, 0] == torch.arange(len(view.seen))[:, None]).all()
    bare = lesson_of(view, 3, torch.zeros(2, 0).long())
    model = MLP(view.whole.x.shape[1], (8,), 4)
    history = sale_mlp(model, bare, pretrain=0)
    assert history.epochs == 3
    assert np.isfinite(history.losses).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(back=0.0), "back, away > 0"),
        (dict(length=1), "length >= 2"),
        (dict(walks=0), "walks must be at least 1"),
        (dict(structure=-1.0), "structure must be at least 0"),
        (dict(structure=float("nan")), "structure must be finite"),
        (dict(pretrain=-1), "pretrain"),
        (dict(lam=2.0), "lam is the weight of the labels"),
    ],
)
def test_options_are_checked_before_a_teacher_is_trained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(digits(), dict(type="sage", epochs=10**9), dict(type="sale_mlp", **options), setting="tran")
    with pytest.raises(ValueError, match="the student needs a hidden layer, which the walks shape"):
        distill(digits(), dict(type="sage", epochs=10**9), "sale_mlp", student=StudentClassifier(()), setting="tran")


def test_it_may_do_without_walks_beforehand_and_no_walk_is_endless() -> None:
    check_method(dict(type="sale_mlp", pretrain=0))
    for odd in (float("nan"), float("inf"), 0.0):
        for options in (dict(back=odd), dict(away=odd)):
            with pytest.raises(ValueError, match="back and away of a walk are positive and finite"):
                Walks(KITE, 5).walk(torch.arange(5), 3, torch.Generator(), **options)
