"""The neighbourhood that a teacher looks up is the right one, and the figures are those of the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from graphkd import Graph, StudentClassifier, digits
from graphkd.networks.mlp import MLP
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import near
from graphkd.sparse.rows import rows
from graphkd.teachers import TEACHERS
from graphkd.teachers.ensemble import Ensemble
from graphkd.training.latency import BATCH, hops, latency, student_latencies, teacher_latencies


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def sorted_edges(graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    return by_target(graph.edge_index, len(graph))


def test_edges_by_target_are_the_same_edges(graph: Graph, sorted_edges: tuple[torch.Tensor, torch.Tensor]) -> None:
    crow, source = sorted_edges
    target = torch.arange(len(graph)).repeat_interleave(crow.diff())
    assert set(zip(source.tolist(), target.tolist())) == set(zip(*graph.edge_index.tolist()))
    assert len(source) == graph.edge_index.shape[1]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_whole_neighbourhood_gives_what_the_whole_graph_gives(
    graph: Graph, sorted_edges: tuple[torch.Tensor, torch.Tensor], layers: int
) -> None:
    torch.manual_seed(0)
    network = TEACHERS["sage"](64, 10, layers=layers, hidden=16).eval()
    seeds = torch.tensor([1700, 3, 42])
    nodes, edges = near(*sorted_edges, seeds, hops(network))[:2]
    assert torch.equal(nodes[:3], seeds)
    assert len(nodes.unique()) == len(nodes) < len(graph)
    with torch.no_grad():
        part, whole = network(rows(graph.x, nodes), edges)[:3], network(graph.x, graph.edge_index)[seeds]
        torch.testing.assert_close(part, whole)
        if layers > 1:  # and no smaller one does
            nodes, edges = near(*sorted_edges, seeds, hops(network) - 1)[:2]
            assert (network(rows(graph.x, nodes), edges)[:3] - whole).abs().max() > 1e-3


def test_a_sampled_neighbourhood_is_a_fair_part_of_the_whole(sorted_edges: tuple[torch.Tensor, torch.Tensor]) -> None:
    crow, source = sorted_edges
    seed = int(crow.diff().argmax())
    around = source[crow[seed] : crow[seed + 1]]
    draw = torch.Generator().manual_seed(0)
    drawn = torch.zeros(len(crow) - 1)
    rounds = 2000
    for _ in range(rounds):
        nodes, edges = near(crow, source, torch.tensor([seed]), 1, 3, draw)[:2]
        assert sorted(edges[0].tolist()) == [1, 2, 3]
        assert edges[1].tolist() == [0, 0, 0]
        drawn[nodes[edges[0]]] += 1
    assert set(drawn.nonzero().flatten().tolist()) == set(around.tolist())
    share = 3 / len(around)
    np.testing.assert_allclose(drawn[around] / rounds, share, atol=5 * (share * (1 - share) / rounds) ** 0.5)
    nodes, edges = near(crow, source, torch.arange(50), 2, 3, draw)[:2]
    into = torch.bincount(edges[1], minlength=len(nodes))
    assert torch.equal(into[:50], crow.diff()[:50].clamp(max=3))
    assert set(map(tuple, nodes[edges].T.tolist())) <= {
        (int(a), node) for node in nodes.tolist() for a in source[crow[node] : crow[node + 1]]
    }


def test_a_node_alone_is_its_own_neighbourhood() -> None:
    crow, source = by_target(torch.empty(2, 0, dtype=torch.long), 4)
    nodes, edges = near(crow, source, torch.tensor([2]), 3, 5)[:2]
    assert nodes.tolist() == [2]
    assert edges.shape == (2, 0)


def test_reach_of_every_teacher() -> None:
    reach = {name: hops(build(8, 3)) for name, build in TEACHERS.items() if name in ("sage", "gcn", "gat", "appnp")}
    assert reach == {"sage": 2, "gcn": 2, "gat": 2, "appnp": 10}
    assert hops(Ensemble([TEACHERS["sage"](8, 3), TEACHERS["gcn"](8, 3, layers=3)])) == 3
    far = MLP(8, (4,), 3)
    assert hops(far) == 0
    assert hops(Ensemble([TEACHERS["sage"](8, 3), far])) == 0


class Alone(nn.Module):
    """Looks at no edge; counts how many nodes it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(len(x))
        return x


def test_what_is_asked_in_each_figure(graph: Graph) -> None:
    network = Alone()
    assert list(student_latencies(network, graph.x)) == ["all_nodes", "one_node", "batch"]
    assert sorted(set(network.asked)) == [1, BATCH, len(graph)]
    network.asked.clear()
    assert list(teacher_latencies(network, graph.x, graph.edge_index)) == ["all_nodes"]  # its reach is not known
    assert set(network.asked) == {len(graph)}
    network.hops = 1  # type: ignore[assignment]
    assert list(teacher_latencies(network, graph.x, graph.edge_index)) == [
        "all_nodes",
        "one_node",
        "one_node_sampled",
        "batch",
    ]


def test_the_median_after_the_warm_up() -> None:
    calls = iter([0.4, 0.4, 0.02, 0.02, 0.4])  # far apart: the machine may be busy with other tests
    assert 20 <= latency(lambda: __import__("time").sleep(next(calls)), warmup=2, repeats=3) < 150


def test_a_student_answers_one_node_in_one_call_and_sooner_than_its_teacher(graph: Graph) -> None:
    student = StudentClassifier((64,), epochs=2).fit(graph.x.numpy(), graph.y.numpy())
    assert student.predict(graph.x[:1]).shape == (1,)
    mine = student_latencies(student.network_, graph.x)
    its = teacher_latencies(TEACHERS["sage"](64, 10).eval(), graph.x, graph.edge_index)
    assert mine["one_node"] < its["one_node"]
    assert mine["batch"] < its["batch"]
