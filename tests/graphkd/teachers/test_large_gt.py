"""LargeGT: sets of nodes and averages stored beforehand, attention among them, and to all nodes by a codebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import TeacherContract
from torch import Tensor

from graphkd import Graph, Split, StudentClassifier, digits, distill, make_setting, train_teacher
from graphkd.data import sorted_undirected
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import two_hop_sets
from graphkd.sparse.rows import compact
from graphkd.teachers.large_gt import GlobalAttention, Stored, large_gt
from graphkd.teachers.stored import check_stored, hop_features

CONTRACT = TeacherContract("large_gt", depth="sample")
QUICK = dict(type="large_gt", hidden=32, sample=4, codes=16, width=8, dropout=0.2)
STUDENT = StudentClassifier((64,), 0.0, epochs=20, batch_size=256, lr=0.01)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return sorted_undirected(digits())


def ring(nodes: int) -> Tensor:
    one_way = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    return torch.cat([one_way, one_way.flip(0)], 1)


def quick(features: int, classes: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return large_gt(features, classes, **{**{k: v for k, v in QUICK.items() if k != "type"}, **options})


@pytest.mark.parametrize("kind", ["dense", "sparse", "array"])
def test_stored_features_are_products_with_the_matrix(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkd.teachers import stored

    monkeypatch.setattr(stored, "BLOCK", 7)
    torch.manual_seed(0)
    x = torch.rand(30, 20) * (torch.rand(30, 20) < 0.08)
    edges = torch.randint(30, (2, 70))
    edges = edges[:, edges[0] != edges[1]].unique(dim=1)
    dense = np.eye(30)
    np.add.at(dense, tuple(edges.flip(0).numpy()), 1.0)
    scale = dense.sum(1) ** -0.5
    a = scale[:, None] * dense * scale
    given: Any = {"dense": x, "sparse": compact(x), "array": x.numpy()}[kind]
    once, twice = hop_features(given, *by_target(edges, 30), 2)
    np.testing.assert_allclose(once, a @ x.double().numpy(), atol=1e-6)
    np.testing.assert_allclose(twice, a @ a @ x.double().numpy(), atol=1e-6)


def test_sets_are_the_node_and_different_ones_within_two_hops_drawn_evenly() -> None:
    crow, source = by_target(ring(12), 12)
    draw, nodes = torch.Generator().manual_seed(0), torch.arange(12)
    found = torch.cat([two_hop_sets(crow, source, nodes, 3, draw) for _ in range(600)])
    assert torch.equal(found[:, 0], nodes.repeat(600))
    apart = (found[:, 1:] - found[:, :1]) % 12
    assert (found[:, 1] != found[:, 2]).all()
    assert torch.bincount(apart.flatten()).nonzero().flatten().tolist() == [1, 2, 10, 11]
    assert (torch.bincount(apart.flatten())[[1, 2, 10, 11]] / len(found) - 0.5).abs().max() < 0.03
    few = two_hop_sets(crow, source, nodes, 9, draw)
    assert all(len(row.unique()) == 5 for row in few)
    assert torch.equal(few[:, 1:5], few[:, 5:])
    alone = two_hop_sets(torch.zeros(4, dtype=torch.long), source[:0], torch.arange(3), 4, draw)
    assert torch.equal(alone, torch.arange(3).unsqueeze(1).expand(3, 4))


def test_two_hops_of_sampling_reach_four_hops() -> None:
    """On a ring, of features 0 to 6 hops away: those within 4 move a node's logits."""
    network, edges = quick(3, 2, part="local", sample=5).eval(), ring(16)
    x = torch.rand(16, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x, edges)[0].square().sum(), x)
    assert (gradient.abs().sum(1) > 0).nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 12, 13, 14, 15]


def test_what_lies_four_hops_away_is_learned_and_is_not_by_two_hops() -> None:
    """On rings of 24 nodes one is marked; a class is of those up to four hops from it."""
    draw = torch.Generator().manual_seed(0)
    rings, size = 30, 24
    edges = torch.cat([ring(size) + size * k for k in range(rings)], 1)
    marked = torch.randint(size, (rings, 1), generator=draw)
    apart = (torch.arange(size) - marked).remainder(size)
    apart = torch.minimum(apart, size - apart).flatten()
    x = torch.stack([(apart == 0).float(), torch.ones(rings * size)], 1)
    graph = Graph(x, edges, (apart <= 4).long(), 2, torch.arange(rings * size))
    order = torch.randperm(rings * size, generator=draw)
    view = make_setting(graph, Split(*order.split([300, 120, 300])), "tran", 0)
    # Of 60 epochs one seed in four ends at chance.
    spec = {**QUICK, "part": "local", "hidden": 16, "dropout": 0.0, "epochs": 150}
    far, near = (train_teacher(view, {**spec, "sample": size}, 0).metrics["tran"] for size in (5, 1))
    assert near < 0.9  # 20 of 24 are told by two hops
    assert far > near + 0.05


def test_attention_to_codes_is_attention_to_all_nodes_as_their_codes() -> None:
    torch.manual_seed(0)
    network = GlobalAttention(6, 8, heads=2, codes=5, decay=0.0, dead=0.0).double().train()
    rows = 3 * torch.randn(40, 6, dtype=torch.float64) + 1
    network.norm.momentum = 1.0
    for _ in range(3):
        network.learn(rows)
    network.eval()
    mean, deviation = rows.mean(0), (rows.var(0) + network.norm.eps).sqrt()
    codes = network.codebook.vectors * deviation + mean
    chosen = torch.cdist(
        (rows - mean) / (rows.var(0, correction=0) + network.norm.eps).sqrt(), network.codebook.vectors
    )
    all_nodes = codes[chosen.argmin(1)]  # what each of the 40 nodes is to the others
    parts = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        q, k = network.query(rows)[:, own], network.key(all_nodes)[:, own]
        v = network.value(all_nodes[:, :3])[:, own]
        parts.append((q @ k.T / 4**0.5).softmax(1) @ v)
    assert network.codebook.count.sum() == 40
    torch.testing.assert_close(network(rows), torch.cat(parts, 1))


def test_the_codebook_is_k_means_by_moving_averages() -> None:
    torch.manual_seed(0)
    network = GlobalAttention(4, 8, heads=1, codes=6, decay=0.9, dead=0.0).double().train()
    batches = torch.randn(5, 50, 4, dtype=torch.float64)
    network.learn(batches[0])
    e, n, total = (part.numpy().copy() for part in network.codebook.buffers() if part.ndim)
    mean, var = (part.numpy().copy() for part in (network.norm.running_mean, network.norm.running_var))
    for batch in batches[1:].numpy():
        network.learn(torch.from_numpy(batch))
        r = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5)
        mean, var = 0.9 * mean + 0.1 * batch.mean(0), 0.9 * var + 0.1 * batch.var(0, ddof=1)
        code = np.array([np.argmin([((row - each) ** 2).sum() for each in e]) for row in r])
        for j in range(6):
            n[j] = 0.9 * n[j] + 0.1 * (code == j).sum()
            total[j] = 0.9 * total[j] + 0.1 * r[code == j].sum(0)
            e[j] = total[j] / n[j]
        np.testing.assert_allclose(network.codebook.vectors, e, rtol=1e-9)
    np.testing.assert_allclose(network.codebook.count, n, rtol=1e-6)
    np.testing.assert_allclose(n.sum(), 50)
    np.testing.assert_allclose(network.codes(), e * np.sqrt(var + 1e-5) + mean, rtol=1e-9)


@pytest.mark.parametrize("part", ["both", "local", "global"])
def test_batches_from_what_is_stored_are_the_whole_graph(graph: Graph, part: str) -> None:
    network, x = quick(64, 10, part=part), graph.x.to_dense()
    network(x[:200], graph.subgraph(torch.arange(200)).edge_index)  # moves the codes
    network.eval()
    edges = by_target(graph.edge_index, len(graph))
    check_stored(network, x, graph.edge_index, *edges)
    nodes = torch.tensor([1700, 3, 42])
    with torch.no_grad():
        whole, stored = network(x, graph.edge_index), network.store(x, *edges)
        torch.testing.assert_close(network.answer(stored, nodes), whole[nodes], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(network.some(x, graph.edge_index, nodes), whole[nodes], atol=1e-5, rtol=1e-5)
    if part == "global":  # which hardly hears an edge that is left out
        return
    with pytest.raises(ValueError, match="LargeGT says other things from what it stores"):
        check_stored(network, x, graph.edge_index, *by_target(graph.edge_index[:, ::2], len(graph)))


class Counted(np.ndarray):
    """Counts the rows that are read of it."""

    read = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        Counted.read += len(found)
        return np.asarray(found)


def test_a_step_reads_no_more_rows_of_a_larger_graph() -> None:
    """And the network is as large: nothing but the features, their averages and the sets grows."""
    sizes, counts = [], []
    for nodes in (100, 1600):
        network, edges = quick(5, 2), by_target(ring(nodes), nodes)
        stored = network.store(torch.rand(nodes, 5), *edges)
        x, *hops = (np.asarray(each).view(Counted) for each in stored.hops)
        Counted.read = 0
        logits = network.answer(Stored((x, *hops), stored.sets), torch.arange(0, 96, 8))
        logits.sum().backward()
        counts.append(Counted.read)
        sizes.append(sum(each.numel() for each in (*network.parameters(), *network.buffers())))
        assert stored.sets.dtype == torch.int32
    assert counts[0] <= 3 * 12 * 4
    assert counts[1] <= 3 * 12 * 4
    assert sizes[0] == sizes[1]


def test_its_weights_find_the_same_sets_again(graph: Graph) -> None:
    network = quick(64, 10).eval()
    again = large_gt(64, 10, hidden=32, sample=4, codes=16, width=8).eval()
    assert not torch.equal(again.seed, network.seed)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(graph.x, graph.edge_index), network(graph.x, graph.edge_index))


def test_it_teaches_a_student_by_its_cache(graph: Graph) -> None:
    spec = {**QUICK, "sample": 6, "epochs": 40}
    result = distill(graph, spec, student=StudentClassifier((32,), epochs=40), setting="tran")
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    assert [layer.shape for layer in result.cache.hidden] == [(len(graph), 32)]


def test_batches_are_trained_on_and_no_unseen_node_is_seen(graph: Graph, tmp_path: Path) -> None:
    teacher = {**QUICK, "sample": 6, "epochs": 40, "batch_size": 32, "weight_decay": 5e-4}
    result = distill(graph, teacher, student=STUDENT, scale="sampled", setting="ind", folder=tmp_path / "run")
    assert result.metrics["teacher"]["observed"] > 0.9
    assert result.metrics["student"]["ind"] > 0.85
    network, cache = result.outcomes["teacher"]["ind"].model, result.cache
    seen = graph.subgraph(torch.from_numpy(np.flatnonzero(cache.observed)))
    with torch.no_grad():
        expected = network(seen.x, seen.edge_index)
        whole = network(graph.x, graph.edge_index)
    logits = np.asarray(cache.logits)
    np.testing.assert_allclose(logits[cache.observed], expected, atol=1e-4)
    assert np.isnan(logits[~cache.observed]).all()
    right = (whole.argmax(1) == graph.y)[~cache.observed].double().mean().item()
    assert result.metrics["teacher"]["ind"] == pytest.approx(right, abs=1e-6)
    assert not [*tmp_path.rglob("layer-*.npy")]
    assert cache.settings["teacher"]["fanout"] is None


def test_mistakes_are_told_before_anything_is_trained(graph: Graph) -> None:
    endless = {**QUICK, "epochs": 10**9}
    for options, message in (
        (dict(hidden=10, heads=4), r"hidden \(10\) must be a multiple of heads \(4\)"),
        (dict(part="all"), "part is 'both', 'local' or 'global', not 'all'"),
        (dict(sample=0), "sample is a whole number from 1, got 0"),
        (dict(codes=2000, sample=1), "a codebook of 2000 codes needs at least as many nodes"),
        (dict(decay=1.0), "decay is from 0 and below 1, got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(graph, {**endless, **options}, student=STUDENT, setting="tran")
    with pytest.raises(ValueError, match=r"16 codes start from .* batch_size \* sample = 12: raise one of the two"):
        distill(graph, {**endless, "batch_size": 3}, student=STUDENT, scale="sampled", setting="tran")
    with pytest.raises(ValueError, match="'large_gt' draws neighbours before its training: leave out fanout"):
        distill(graph, {**endless, "fanout": 5}, student=STUDENT, scale="sampled", setting="tran")
    weighted = Graph(**{**vars(graph), "edge_weight": torch.rand(graph.edge_index.shape[1])})
    with pytest.raises(ValueError, match="edge_weight, which the teacher 'large_gt' does not use"):
        distill(weighted, endless, student=STUDENT, setting="tran")
