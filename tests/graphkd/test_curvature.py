"""Curvature against values by hand and a linear programme; the matching of neighbourhoods against NumPy; the recipe."""

from __future__ import annotations

import functools
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.optimize import linprog
from torch import Tensor

from graphkd import StudentClassifier, cpf_split, digits, make_setting, train_student, train_teacher
from graphkd.data.curvature import edge_curvature
from graphkd.losses import caw_w2
from graphkd.networks.mlp import MLP
from graphkd.recipes import curvature
from graphkd.recipes.curvature import Neighbourhoods, curvature_weights
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train

CONTRACT = RecipeContract("curvature", undrawn=dict(fan=None, centres=None))


def edges_of(graph: nx.Graph) -> Tensor:
    return torch.tensor(list(graph.edges)).T.reshape(2, -1)


def kappa_of(graph: nx.Graph, **options: int) -> np.ndarray:
    return edge_curvature(edges_of(graph), len(graph), **options)[1].numpy()


def transported(graph: nx.Graph, u: int, v: int) -> float:
    """1 - W1 of two lazy walks, by a linear programme over all nodes."""
    away = dict(nx.all_pairs_shortest_path_length(graph))
    walks = []
    for node in (u, v):
        walk = np.zeros(len(graph))
        walk[node] = 0.5
        walk[list(graph[node])] = 0.5 / graph.degree[node]
        walks.append(walk)
    here, there = (np.flatnonzero(walk) for walk in walks)
    cost = np.array([[away[a][b] for b in there] for a in here], dtype=float)
    sums = np.concatenate([np.kron(np.eye(len(here)), np.ones(len(there))), np.tile(np.eye(len(there)), len(here))])
    return 1 - linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([walks[0][here], walks[1][there]])).fun


@pytest.mark.parametrize("n", range(2, 7))
def test_complete_graphs(n: int) -> None:
    # the walks differ in what their two ends hold more of themselves: 1/2 - 1/(2 (n - 1)), carried over one edge
    np.testing.assert_allclose(kappa_of(nx.complete_graph(n)), n / (2 * (n - 1)))


@pytest.mark.parametrize(("n", "kappa"), [(3, 0.75), (4, 0.5), (5, 0.25), (6, 0.0), (9, 0.0)])
def test_cycles(n: int, kappa: float) -> None:
    np.testing.assert_allclose(kappa_of(nx.cycle_graph(n)), kappa, atol=1e-12)


def test_trees() -> None:
    tree = nx.random_labeled_tree(40, seed=0)
    for (u, v), kappa in zip(tree.edges, kappa_by_edge(tree)):
        assert kappa == pytest.approx(1 / tree.degree[u] + 1 / tree.degree[v] - 1)


def kappa_by_edge(graph: nx.Graph) -> list[float]:
    """In the order of `graph.edges`."""
    pairs, kappa = edge_curvature(edges_of(graph), len(graph))
    found = dict(zip(map(tuple, pairs.T.tolist()), kappa.tolist()))
    return [found[min(edge), max(edge)] for edge in graph.edges]


@pytest.mark.parametrize(
    "graph",
    [
        nx.gnp_random_graph(14, 0.25, seed=1),
        nx.gnp_random_graph(16, 0.5, seed=2),
        nx.complete_bipartite_graph(3, 5),
        nx.barabasi_albert_graph(20, 2, seed=3),
        nx.lollipop_graph(5, 3),
        nx.petersen_graph(),
    ],
    ids=["sparse", "dense", "bipartite", "hubs", "lollipop", "petersen"],
)
def test_exact_is_the_linear_programme(graph: nx.Graph) -> None:
    expected = [transported(graph, u, v) for u, v in graph.edges]
    np.testing.assert_allclose(kappa_by_edge(graph), expected, atol=1e-9)


def test_where_it_is_not_exact_it_lies_between_its_bounds() -> None:
    graph = nx.gnp_random_graph(60, 0.25, seed=0)
    exact, rough, guess = (kappa_of(graph, exact=limit) for limit in (10**6, 150, 0))
    degree = np.array([graph.degree[node] for node in range(len(graph))])
    pairs = edge_curvature(edges_of(graph), len(graph))[0].numpy()
    large = degree[pairs].prod(0) > 150
    assert 0 < large.sum() < len(large)
    np.testing.assert_array_equal(rough[~large], exact[~large])
    triangles = np.array([len(list(nx.common_neighbors(graph, u, v))) for u, v in pairs.T])
    few, many = np.sort(degree[pairs], 0)
    least = 1 / few + 1 / many - 1 + triangles / (2 * few) + triangles / many
    most = 1 / (2 * few) + (1 + triangles) / (2 * many)
    assert (least <= exact + 1e-9).all()
    assert (exact <= most + 1e-9).all()
    np.testing.assert_allclose(guess, (least + most) / 2, atol=1e-12)
    # placed as the exact ones are, it is nearer to the truth than any of the bounds, and than the middle
    errors = [np.abs(found - exact)[large].mean() for found in (rough, least, most, guess)]
    assert errors[0] == min(errors)
    assert errors[0] < 0.1


def test_directions_loops_duplicates_and_order_do_not_count_and_names_are_carried_along() -> None:
    graph = nx.gnp_random_graph(20, 0.3, seed=4)
    edges = edges_of(graph)
    pairs, kappa = edge_curvature(edges, 20)
    other = torch.cat([edges.flip(0), edges[:, :9], torch.arange(20).expand(2, -1)], 1)
    other = other[:, torch.randperm(other.shape[1])]
    assert all(torch.equal(*both) for both in zip(edge_curvature(other, 20), (pairs, kappa)))
    name = torch.randperm(20)
    moved = edge_curvature(name[edges], 20)
    again = {frozenset(pair): value for pair, value in zip(moved[0].T.tolist(), moved[1].tolist())}
    for pair, value in zip(name[pairs].T.tolist(), kappa.tolist()):
        assert again[frozenset(pair)] == pytest.approx(value)
    assert edge_curvature(edges[:, :0], 20)[1].shape == (0,)


def test_work_of_seconds_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graph = digits()
    quick = edge_curvature(graph.edge_index, len(graph))
    assert not list(tmp_path.rglob("*.npy"))
    monkeypatch.setattr("graphkd.data.curvature._KEEP", 0)
    first, again = (edge_curvature(graph.edge_index, len(graph)) for _ in range(2))
    assert len(list(tmp_path.rglob("curvature-*.npy"))) == 1
    assert torch.equal(first[1], quick[1])
    assert torch.equal(again[1], quick[1])
    edge_curvature(graph.edge_index[:, (graph.edge_index != 0).all(0)], len(graph))
    assert len(list(tmp_path.rglob("curvature-*.npy"))) == 2


# --- the loss ---------------------------------------------------------------------------------------------------------


def caw_by_hand(student: np.ndarray, teacher: np.ndarray, edges: Tensor, eps: float, weight: np.ndarray) -> float:
    total = 0.0
    for v in range(len(student)):
        ball = [v] + [j for j, i in edges.T.tolist() if i == v != j and weight[j] > 0]
        mean = student[ball].mean(0) - teacher[ball].mean(0)
        deviation = np.sqrt(student[ball].var(0) + eps) - np.sqrt(teacher[ball].var(0) + eps)
        total += weight[v] * ((mean**2).sum() + (deviation**2).sum())
    return total / weight.sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_formula(weighted: bool) -> None:
    student, teacher = torch.randn(2, 30, 4, dtype=torch.float64)
    edges = torch.randint(29, (2, 120))  # with duplicates and self-loops; node 29 has no edge
    weight = torch.arange(30, dtype=torch.float64) % 3 if weighted else torch.ones(30, dtype=torch.float64)
    found = caw_w2(student, teacher, edge_index=edges, eps=0.1, **(dict(weight=weight) if weighted else {}))
    expected = caw_by_hand(student.numpy(), teacher.numpy(), edges, 0.1, weight.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_shift_moves_means_alone_and_without_edges_it_is_the_squared_distance() -> None:
    teacher, edges = torch.randn(30, 4, dtype=torch.float64), torch.randint(30, (2, 120))
    shift = torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(caw_w2(teacher + shift, teacher, edge_index=edges), shift.square().sum())
    student = torch.randn_like(teacher)
    alone = caw_w2(student, teacher, edge_index=edges[:, :0])
    torch.testing.assert_close(alone, (student - teacher).square().sum(1).mean())


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_bottlenecks_weigh_more_in_logits_and_clusters_in_what_is_hidden() -> None:
    graph = nx.barbell_graph(6, 1)
    pairs, kappa = edge_curvature(edges_of(graph), 14)  # the last has no edge
    first, second = curvature_weights(pairs, kappa, 14)
    assert first.argmax() == second.argmin() == 6  # the bridge
    assert first.mean() == pytest.approx(1)
    assert second.mean() == pytest.approx(1)
    assert second[0] > 1 > first[0]
    mean = np.array([np.mean([k for pair, k in zip(pairs.T.tolist(), kappa.tolist()) if v in pair]) for v in range(13)])
    score = np.append(np.clip((mean - mean.mean()) / mean.std(), -3, 3), 0)
    np.testing.assert_allclose(first, np.exp(-score) / np.exp(-score).mean())
    np.testing.assert_allclose(second, np.exp(score) / np.exp(score).mean())
    even = curvature_weights(*edge_curvature(edges_of(nx.cycle_graph(8)), 8), 8)
    torch.testing.assert_close(torch.stack(even), torch.ones(2, 8, dtype=torch.float64))


def test_neighbourhoods_are_drawn_without_replacement_and_fairly() -> None:
    graph = digits()
    pairs = edge_curvature(graph.edge_index, len(graph))[0]
    near = [set(graph.edge_index[0, graph.edge_index[1] == v].tolist()) for v in range(40)]
    nodes = torch.arange(40).flip(0)
    for fan in (None, 3):
        members, group = Neighbourhoods(pairs, len(graph), fan, torch.Generator().manual_seed(0)).of(nodes)
        for place, v in enumerate(nodes.tolist()):
            ball = members[group == place].tolist()
            assert len(set(ball)) == len(ball) == 1 + min(len(near[v]), fan or len(graph))
            assert set(ball) <= near[v] | {v}
    widest = int(torch.bincount(graph.edge_index[1]).argmax())
    drawn = Neighbourhoods(pairs, len(graph), 4, torch.Generator().manual_seed(0))
    members, _ = drawn.of(torch.full((4000,), widest))
    often = torch.bincount(members[:-4000])
    often = often[often > 0]
    assert len(often) == len(graph.edge_index[0, graph.edge_index[1] == widest])
    assert often.min() > 0.85 * often.float().mean()


def step_loss(model: MLP, teacher: Tensor, hidden: Tensor, nodes: Tensor | slice, **options: object) -> Tensor:
    """The loss that the recipe would minimise on these nodes of the digits graph."""
    kept: list[Tensor] = []

    def one_step(network: torch.nn.Module, loss: object, count: int) -> History:
        with torch.no_grad():
            for parameter in network[1].parameters():  # the map between the hidden layers: the identity
                parameter.copy_(torch.eye(len(parameter)) if parameter.ndim == 2 else torch.zeros(len(parameter)))
        kept.append(loss(nodes))  # type: ignore[operator]
        return History()

    graph = digits()
    labels = torch.full((len(graph),), -1)
    lesson = Lesson(graph.x, labels, one_step, torch.Generator(), teacher, graph.edge_index, hidden=[hidden])
    curvature(model, lesson, **options)  # type: ignore[arg-type]
    return kept[0]


def test_a_step_is_glnn_and_the_gradient_of_the_logarithm_of_the_loss() -> None:
    graph, model = digits(), MLP(64, (16,), 10)
    teacher, hidden = torch.randn(1797, 10), torch.randn(1797, 16)
    first, second = curvature_weights(*edge_curvature(graph.edge_index, 1797), 1797)
    inside, logits = model.outputs(graph.x)
    distance = caw_w2(inside, hidden, edge_index=graph.edge_index, weight=second.float()) + caw_w2(
        logits, teacher, edge_index=graph.edge_index, weight=first.float()
    )
    parameters = list(model.parameters())
    expected = torch.autograd.grad(distance.log(), parameters)
    for nodes in (slice(None), torch.randperm(1797)):
        parts = [step_loss(model, teacher, hidden, nodes, caw=c, fan=None, centres=None) for c in (0.0, 1.0)]
        assert (parts[1] - parts[0]).item() == pytest.approx(1, abs=1e-5)
        plain, whole = (torch.autograd.grad(part, parameters) for part in parts)
        for one, other, slope in zip(whole, plain, expected):
            torch.testing.assert_close(one - other, slope, atol=1e-5, rtol=1e-3)


def test_a_perfect_student_has_no_gradient() -> None:
    model = MLP(64, (16,), 10)
    with torch.no_grad():
        inside, logits = model.outputs(digits().x)
    value = step_loss(model, logits, inside, slice(None), fan=3)
    assert value.abs() < 1e-6
    assert all(slope.abs().max() < 1e-4 for slope in torch.autograd.grad(value, list(model.parameters())))


def test_what_it_cannot_compare_is_named() -> None:
    graph = digits()
    lesson = Lesson(
        graph.x, graph.y, functools.partial(train, schedule=Schedule()), torch.Generator(), graph.x[:, :10],
        graph.edge_index, hidden=[graph.x],
    )  # fmt: skip
    with pytest.raises(ValueError, match="the teacher has 1, the student has 0; both need one"):
        curvature(MLP(64, (), 10), lesson)
    with pytest.raises(ValueError, match="fan is a number of nodes from 1, or None for all, got 0"):
        curvature(MLP(64, (8,), 10), lesson, fan=0)


def test_on_digits_it_beats_its_control() -> None:
    graph = digits()
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    cache = train_teacher(view, dict(type="sage", epochs=60)).cache
    student = StudentClassifier(hidden=(64,), dropout=0.3, epochs=60)
    control, taught = (
        train_student(view, *told, student).metrics["tran"] for told in ((None, "glnn"), (cache, "curvature"))
    )
    assert taught > control + 0.005
