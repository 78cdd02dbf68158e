"""InfGraND: influence by brute force, features over hops and who sees them, and what influential nodes change."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from graphkd import Cache, Graph, StudentClassifier, distill
from graphkd.data import Setting, cpf_split, digits, make_setting
from graphkd.data.influence import influence, multi_hop, with_hops
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.recipes import infgrand
from graphkd.sparse.rows import compact
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train

CONTRACT = RecipeContract("infgrand")

NODES = 40


def some_edges(directed: bool = False) -> Tensor:
    """Edges of a small graph with an isolated node, the last."""
    edges = torch.randint(NODES - 1, (2, 90), generator=torch.Generator().manual_seed(0)).unique(dim=1)
    return edges if directed else torch.cat([edges, edges.flip(0)], 1).unique(dim=1)


def propagation(edges: Tensor) -> np.ndarray:
    """The normalised adjacency with one self-loop a node, row = target."""
    looped = np.zeros((NODES, NODES))
    looped[edges[1], edges[0]] = 1
    np.fill_diagonal(looped, 1)
    scale = looped.sum(1) ** -0.5
    return scale[:, None] * looped * scale


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("reach", [0, 1, 3])
def test_the_influence_is_the_jacobian_of_the_propagation(directed: bool, reach: int) -> None:
    """By automatic differentiation of dense products: all derivatives of all nodes by all features, summed."""
    edges = some_edges(directed)
    a, x = torch.from_numpy(propagation(edges)), torch.randn(NODES, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.linalg.matrix_power(a, reach) @ x, x)
    moved = jacobian.abs().sum((0, 1, 3))  # by node, of which the features are moved
    np.testing.assert_allclose(influence(x, edges, "jacobian", reach), moved / moved.max(), rtol=1e-5)


@pytest.mark.parametrize("directed", [False, True])
def test_the_published_influence_is_the_scaled_sum_of_all_cosines(directed: bool) -> None:
    edges, x = some_edges(directed), torch.randn(NODES, 6).abs()
    x[3] = 0  # a node without a word
    moved = np.linalg.matrix_power(propagation(edges), 2) @ x.double().numpy()
    own, theirs = (v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-30) for v in (x.double().numpy(), moved))
    similar = own @ theirs.T
    total = ((similar - similar.min()) / (similar.max() - similar.min())).sum(1)
    for given in (x, x.to_sparse_csr(), x.numpy()):
        np.testing.assert_allclose(influence(given, edges), total / total.max(), rtol=1e-4)


def test_nodes_that_do_not_differ_have_the_same_influence() -> None:
    for x in (torch.ones(5, 2), torch.zeros(5, 2)):
        for score in ("cosine", "jacobian"):
            torch.testing.assert_close(influence(x, torch.zeros(2, 0).long(), score), torch.ones(5))
    assert influence(torch.rand(1, 2), torch.zeros(2, 1).long()).tolist() == [1.0]


def test_features_are_the_mean_of_powers_and_those_of_a_lone_node_are_its_own() -> None:
    edges, x = some_edges(directed=True), torch.randn(NODES, 4)
    a = propagation(edges)
    expected = sum(np.linalg.matrix_power(a, hop) @ x.double().numpy() for hop in range(4)) / 4
    np.testing.assert_allclose(multi_hop(x, edges, 3), expected, atol=1e-5)
    torch.testing.assert_close(multi_hop(x, edges, 3)[-1], x[-1])
    assert torch.equal(multi_hop(x, edges, 0), x)
    words = compact((x > 1.6).float())
    assert words.layout is torch.sparse_csr
    np.testing.assert_allclose(
        multi_hop(words, edges[:, :3], 1).to_dense(), multi_hop(words.to_dense(), edges[:, :3], 1).to_dense()
    )


@pytest.fixture(scope="module")
def small() -> Setting:
    """Some 400 digits, of whose test nodes a fifth is hidden."""
    whole = digits()
    nodes = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:400].sort().values
    graph = whole.subgraph(nodes)
    split = cpf_split(graph.y, 0, 10, 10)
    return make_setting(graph, split, "ind", 0)


def test_a_node_sees_what_is_there_and_at_a_cold_start_itself(small: Setting) -> None:
    found = with_hops(small, 0, hops=2)
    whole, seen = small.whole, small.seen
    torch.testing.assert_close(found.seen, multi_hop(seen.x, seen.edge_index, 2))
    torch.testing.assert_close(found.linked[small.observed], found.seen)
    torch.testing.assert_close(found.alone[small.observed], found.seen)
    torch.testing.assert_close(found.linked[small.unseen], multi_hop(whole.x, whole.edge_index, 2)[small.unseen])
    torch.testing.assert_close(found.alone[small.unseen], whole.x[small.unseen])
    torch.testing.assert_close(torch.from_numpy(found.more["influence"]), influence(seen.x, seen.edge_index))
    changed = whole.x.clone()
    changed[small.unseen] = 7.0
    other = with_hops(Setting(**{**vars(small), "whole": Graph(**{**vars(whole), "x": changed})}), 0, hops=2)
    assert torch.equal(other.seen, found.seen)
    assert np.array_equal(other.more["influence"], found.more["influence"])


def teacher_of(graph: Graph) -> Tensor:
    noise = torch.randn(len(graph), 10, generator=torch.Generator().manual_seed(1))
    return noise + 2 * nn.functional.one_hot(graph.y.clamp_min(0), 10)


def lesson_of(graph: Graph, keep: list[Any], labels: Tensor, **more: Any) -> Lesson:
    def one_step(model: nn.Module, loss: Any, count: int) -> History:
        keep.append(loss)
        return History()

    return Lesson(
        graph.x, labels, one_step, torch.Generator().manual_seed(2), teacher_of(graph), graph.edge_index, more=more
    )


def test_the_loss_is_a_mean_over_edges_weighed_by_who_is_heard(small: Setting) -> None:
    """Edge by edge in a loop."""
    seen, keep = small.seen, list[Any]()
    labels = torch.full((len(seen),), -1).index_copy(0, small.train, seen.y[small.train])
    model = MLP(64, (12,), 10)
    infgrand(model, lesson_of(seen, keep, labels), lam=0.3, tau=1.7, labels=(0.8, 0.5), edges=(0.2, 1.5))
    told = influence(seen.x, seen.edge_index).double().numpy()
    student, teacher = model(seen.x).detach().double().numpy(), teacher_of(seen).double().numpy()
    p, log_q = softmax(teacher / 1.7, 1), log_softmax(student / 1.7, 1)
    loops = np.arange(len(seen))
    heard, hears = (np.concatenate([end, loops]) for end in seen.edge_index.numpy())
    each = (p[heard] * (np.log(p[heard]) - log_q[hears])).sum(1)
    soft = ((0.2 + 1.5 * told[heard]) * each).mean()
    who = small.train.numpy()
    hard = ((0.8 + 0.5 * told[who]) * -log_softmax(student, 1)[who, seen.y[who]]).mean()
    assert keep[0](slice(None)).item() == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-4)
    infgrand(model, lesson_of(seen, keep, labels), lam=0.0, edges=(0.2, 1.5))
    parts = torch.arange(len(seen)).split(len(seen) // 4)
    parts = parts if len(parts[-1]) == len(parts[0]) else parts[:-1]
    rest = torch.arange(len(seen))[sum(map(len, parts)) :]
    in_parts = sum(keep[1](part).item() * len(part) for part in [*parts, *([rest] if len(rest) else [])])
    assert in_parts / len(seen) == pytest.approx(keep[1](slice(None)).item(), rel=1e-4)


def test_a_node_learns_from_the_neighbour_that_influences_others() -> None:
    """A student free to say anything ends at the weighted mean of those that it hears; else at the plain one."""
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    graph = Graph(torch.eye(3), edges, torch.tensor([0, 1, 1]), 2, torch.arange(3))
    teacher = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 3.0]])  # nodes 0 and 2 disagree about what is next to 1
    told = torch.tensor([1.0, 0.2, 0.0])
    loop = functools.partial(train, schedule=Schedule(epochs=300, lr=0.05, weight_decay=0.0))
    for pair in ((1.0, 4.0), (1.0, 0.0)):
        model = MLP(3, (), 2)
        lesson = Lesson(
            graph.x, torch.full((3,), -1), loop, torch.Generator(), teacher, edges, more={"influence": told}
        )
        infgrand(model, lesson, lam=0.0, tau=1.0, edges=pair)
        weight = pair[0] + pair[1] * told
        expected = (weight[:, None] * teacher.softmax(1)).sum(0) / weight.sum()
        torch.testing.assert_close(model(graph.x).softmax(1)[1].detach(), expected, atol=2e-3, rtol=0)
    assert expected[0].item() == pytest.approx(0.5)


def test_features_over_hops_raise_a_student_above_those_as_they_are(small: Setting) -> None:
    noisy = small.whole.x + 0.45 * torch.randn(small.whole.x.shape, generator=torch.Generator().manual_seed(3))
    view = make_setting(Graph(**{**vars(small.whole), "x": noisy}), cpf_split(small.whole.y, 0, 10, 10), "tran", 0)
    logits = teacher_of(view.whole).numpy()
    cache = Cache(logits, np.arange(len(logits)), np.ones(len(logits), dtype=bool), view.whole.fingerprint())
    student = StudentClassifier((24,), dropout=0.2, epochs=40)
    over, bare = (
        train_student(view, cache, dict(type="infgrand", inputs=dict(hops=hops)), student).metrics["tran"]
        for hops in (2, 0)
    )
    assert over > bare + 0.02


def test_the_influence_of_the_features_as_they_were_reaches_the_student(small: Setting) -> None:
    """An influence of one's own in the cache is kept, and else that of `with_hops` counts."""
    logits = teacher_of(small.whole).numpy()
    observed = np.zeros(len(logits), dtype=bool)
    observed[small.observed] = True
    logits[~observed] = np.nan
    student, found = StudentClassifier((8,), epochs=3), {}
    raw = np.zeros(len(logits), dtype=np.float32)
    raw[small.observed] = influence(small.seen.x, small.seen.edge_index).numpy()
    for name, more in {"given": dict(influence=raw), "made": {}, "other": dict(influence=raw[::-1].copy() + 1)}.items():
        cache = Cache(logits, np.arange(len(logits)), observed, small.whole.fingerprint(), more=more)
        found[name] = train_student(small, cache, "infgrand", student).model.predict_proba(small.whole.x)
    assert np.array_equal(found["given"], found["made"])
    assert not np.array_equal(found["other"], found["made"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tau=0.0), "tau must be positive"),
        (dict(edges=(0.0, 0.0)), "one of the two weights in edges must be positive"),
        (dict(labels=(0.5,)), r"labels is two numbers, \(a, b\) of a \+ b I"),
        (dict(edges=(1.0, -0.1)), "each weight in edges is a finite number from 0, got -0.1"),
        (dict(edges=(1.0, float("nan"))), "edges must be finite"),
        (dict(edges=(1.0, True)), "each weight in edges is a finite number"),
        (dict(inputs=dict(hops=-1)), "hops is a whole number from 0, got -1"),
        (dict(inputs=dict(reach=1.5)), "reach is a whole number from 0"),
        (dict(inputs=dict(score="cosin")), "score is 'cosine' or 'jacobian', not 'cosin'"),
    ],
)
def test_options_are_checked_before_a_teacher_is_trained(options: dict[str, Any], message: str) -> None:
    teacher = dict(type="sage", epochs=10**9)
    with pytest.raises(ValueError, match=message):
        distill(digits(), teacher, dict(type="infgrand", **options), setting="tran")


@pytest.mark.parametrize(
    "wrong",
    [torch.ones(3), torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, 1.0]), torch.tensor([1.0, float("nan"), 1, 1])],
)
def test_an_influence_that_is_none_is_named(wrong: Tensor) -> None:
    lesson = Lesson(
        *(torch.ones(4, 3), torch.zeros(4).long(), lambda *_: History(), torch.Generator(), torch.ones(4, 2)),
        edge_index=torch.zeros(2, 0).long(),
        more={"influence": wrong},
    )
    with pytest.raises(ValueError, match="influence is a finite number from 0 for each of the 4 nodes, not 0 for all"):
        infgrand(MLP(3, (), 2), lesson)


def test_as_a_classifier_it_counts_the_influence_that_is_asked_for(small: Setting) -> None:
    seen, found = small.seen, list[list[float]]()
    options: list[dict[str, Any]] = [{}, dict(score="jacobian", reach=1)]
    for inputs in options:
        keep = list[Any]()
        torch.manual_seed(0)
        lesson = lesson_of(seen, keep, torch.full((len(seen),), -1))
        infgrand(MLP(64, (12,), 10), lesson, lam=0.0, edges=(0.0, 1.0), inputs=inputs)
        told = influence(seen.x, seen.edge_index, **inputs)
        torch.manual_seed(0)
        infgrand(MLP(64, (12,), 10), replace(lesson, more={"influence": told}), lam=0.0, edges=(0.0, 1.0))
        found.append([loss(slice(None)).item() for loss in keep])
        assert found[-1][0] == pytest.approx(found[-1][1])
    assert found[0][0] != pytest.approx(found[1][0])
