"""Graph Mamba: nodes as ends of sequences of their neighbourhoods, read by selective scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphkd import Graph, Split, StudentClassifier, digits, distill, make_setting, train_teacher
from graphkd.sparse.edges import degree
from graphkd.sparse.rows import compact, drop_features
from graphkd.teachers.graph_mamba import Block, Direction, Encoder, graph_mamba, neighbourhoods

QUICK = dict(type="graph_mamba", hidden=16, states=4, dropout=0.2)


def ring(nodes: int) -> Tensor:
    one_way = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    return torch.cat([one_way, one_way.flip(0)], 1)


def quick(features: int, classes: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return graph_mamba(features, classes, **{**{k: v for k, v in QUICK.items() if k != "type"}, **options})


def test_tokens_are_unions_of_walks_the_farthest_first() -> None:
    found = neighbourhoods(ring(20), 20, reach=3, repeats=2, walks=4, seed=0)
    assert found.nodes.shape == (20, 6, 13)
    apart = (found.nodes - torch.arange(20).view(-1, 1, 1)).remainder(20)
    apart = torch.minimum(apart, 20 - apart)
    assert [int(apart[:, place].max()) for place in range(6)] == [3, 3, 2, 2, 1, 1]
    assert (apart == 0).any(2).all()  # the node itself is in each
    again = neighbourhoods(ring(20), 20, reach=3, repeats=2, walks=4, seed=0)
    assert torch.equal(found.nodes, again.nodes)
    assert not torch.equal(found.nodes, neighbourhoods(ring(20), 20, 3, 2, 4, seed=1).nodes)
    alone = neighbourhoods(torch.empty(2, 0, dtype=torch.long), 2, 1, 1, 3, seed=0)
    assert alone.nodes.tolist() == [[[0] * 4], [[1] * 4]]
    assert alone.member.tolist() == [[[1.0, 0, 0, 0]]] * 2


def test_a_token_is_one_graph_layer_within_the_neighbourhood_and_its_mean() -> None:
    torch.manual_seed(0)
    edges = torch.randint(12, (2, 40))
    there = {(int(source), int(target)) for source, target in edges.T}
    found = neighbourhoods(edges, 12, reach=2, repeats=2, walks=3, seed=0)
    encoder = Encoder(5, 6, layers=0, states=2, dropout=0.0, readout="last").double().eval()
    encoder.norm = torch.nn.Identity()
    read: list[Tensor] = []

    class Reads(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            read.append(x)
            return x

    encoder.blocks.append(Reads())
    x = torch.randn(12, 5, dtype=torch.float64)
    z = encoder.embed(x)
    last = encoder(z, found, torch.arange(12))
    (sequence,) = (each.detach().numpy() for each in read)
    z = z.detach().numpy()
    for node in range(12):
        for place in range(4):
            inside = sorted(set(found.nodes[node, place].tolist()))
            rows = [np.maximum(np.mean([z[j] for j in inside if j == i or (j, i) in there], 0), 0) for i in inside]
            np.testing.assert_allclose(sequence[node, place], np.mean(rows, 0), atol=1e-6)
        np.testing.assert_allclose(sequence[node, 4], np.maximum(z[node], 0))
    torch.testing.assert_close(last, torch.from_numpy(z).relu())
    encoder.readout = "mean"
    mean = encoder(encoder.embed(x), found, torch.arange(12)).detach().numpy()
    np.testing.assert_allclose(mean, sequence.mean(1))


@pytest.mark.parametrize("sparse", [False, True])
def test_in_training_features_are_dropped_and_the_others_raised(sparse: bool) -> None:
    torch.manual_seed(0)
    x = (torch.rand(200, 50) < 0.1).float()
    given = compact(x) if sparse else x
    dropped = drop_features(given, 0.75, training=True)
    assert dropped.layout is given.layout
    found = dropped.to_dense()
    assert {*found.unique().tolist()} == {0.0, 4.0}
    assert (found[x == 0] == 0).all()
    assert abs(float(found.sum() / x.sum()) - 1) < 0.1
    assert torch.equal(drop_features(given, 0.75, training=False).to_dense(), x)
    network = quick(50, 3, dropout=0.75).train()
    read: list[Tensor] = []
    network.layers[0].embed.register_forward_pre_hook(lambda _, args: read.append(args[0].to_dense()))
    network(given, ring(200))
    network.eval()(given, ring(200))
    assert (read[0] != x).any()
    assert torch.equal(read[1], x)


def test_a_block_scans_in_both_directions() -> None:
    torch.manual_seed(0)
    block = Block(6, 3, 0.0).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    one_way = Direction(6, 3).double()
    (gradient,) = torch.autograd.grad(one_way(x)[:, 3].square().sum(), x)
    assert [bool(each) for each in gradient.abs().sum((0, 2))] == [True] * 4 + [False] * 3
    (gradient,) = torch.autograd.grad(block(x)[:, 3].square().sum(), x)
    assert (gradient.abs().sum((0, 2)) > 0).all()
    block.backwards.load_state_dict(block.forwards.state_dict())
    torch.testing.assert_close(block(x.flip(1)).flip(1), block(x))  # the same both ways: it knows no direction


def test_without_reach_no_edge_is_read() -> None:
    network, x = quick(3, 2, reach=0).eval(), torch.rand(10, 3)
    assert torch.equal(network(x, ring(10)), network(x, ring(10)[:, :0]))
    assert not torch.equal(quick(3, 2).eval()(x, ring(10)), quick(3, 2).eval()(x, ring(10)[:, :0]))


@pytest.mark.parametrize("over_nodes", [False, True])
def test_some_nodes_have_what_they_have_among_all(over_nodes: bool) -> None:
    graph = digits()
    network, nodes = quick(64, 10, over_nodes=over_nodes).eval(), torch.tensor([1700, 3, 42])
    with torch.no_grad():
        whole = network(graph.x, graph.edge_index)
        torch.testing.assert_close(network.some(graph.x, graph.edge_index, nodes), whole[nodes], atol=1e-5, rtol=1e-5)
        again = graph_mamba(64, 10, hidden=16, states=4, over_nodes=over_nodes).eval()
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(graph.x, graph.edge_index), whole)  # it finds the same walks


def test_over_nodes_all_are_one_sequence_in_the_order_of_their_degrees() -> None:
    torch.manual_seed(0)
    edges = torch.randint(40, (2, 90))
    network = quick(3, 2, over_nodes=True).eval()
    x = torch.rand(40, 3)
    read: list[Tensor] = []
    network.over.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    before = network.layers[0](network.layers[0].embed(x), network._drawn(edges, 40), torch.arange(40))
    network(x, edges)
    order = sorted(range(40), key=lambda node: int(degree(edges, 40)[node]))
    torch.testing.assert_close(read[0][0], before[order])


def test_sequences_tell_a_distance_that_a_node_alone_does_not() -> None:
    """On rings of 12 nodes one is marked; classes are of up to two hops from it, and of more."""
    draw = torch.Generator().manual_seed(0)
    rings, size = 50, 12
    edges = torch.cat([ring(size) + size * k for k in range(rings)], 1)
    marked = torch.randint(size, (rings, 1), generator=draw)
    apart = (torch.arange(size) - marked).remainder(size)
    apart = torch.minimum(apart, size - apart).flatten()
    x = torch.stack([(apart == 0).float(), torch.ones(rings * size)], 1)
    graph = Graph(x, edges, (apart <= 2).long(), 2, torch.arange(rings * size))
    order = torch.randperm(rings * size, generator=draw)
    view = make_setting(graph, Split(*order.split([250, 100, 250])), "tran", 0)
    spec = {**QUICK, "dropout": 0.0, "epochs": 60, "lr": 0.03, "walks": 8}
    far, near = (train_teacher(view, {**spec, "reach": reach}, 0).metrics["tran"] for reach in (2, 1))
    assert near < 0.9  # 10 of 12 are told by one hop
    assert far > near + 0.05


def test_it_teaches_a_student_by_its_cache() -> None:
    graph = digits()
    result = distill(
        graph, {**QUICK, "epochs": 40, "lr": 0.02}, student=StudentClassifier((32,), epochs=40), setting="tran"
    )
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    assert [layer.shape for layer in result.cache.hidden] == [(len(graph), 16)]


def test_mistakes_are_told_before_anything_is_trained() -> None:
    graph, student = digits(), StudentClassifier((8,), epochs=3)
    for options, message in (
        (dict(reach=-1), "reach is a whole number from 0, got -1"),
        (dict(walks=0), "walks is a whole number from 1, got 0"),
        (dict(states=2.5), "states is a whole number from 1, got 2.5"),
        (dict(over_nodes="yes"), "over_nodes is True or False, got 'yes'"),
        (dict(readout="first"), "readout is 'mean' or 'last', got 'first'"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(graph, {**QUICK, "epochs": 10**9, **options}, student=student, setting="tran")
    with pytest.raises(ValueError, match=r"cannot be applied layer by layer|no stack of graph layers"):
        distill(graph, {**QUICK, "epochs": 10**9}, student=student, scale="sampled", setting="tran")
    weighted = Graph(**{**vars(graph), "edge_weight": torch.rand(graph.edge_index.shape[1])})
    with pytest.raises(ValueError, match="edge_weight, which the teacher 'graph_mamba' does not use"):
        distill(weighted, {**QUICK, "epochs": 10**9}, student=student, setting="tran")
