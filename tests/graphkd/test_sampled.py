"""Teachers trained on sampled neighbourhoods and applied layer by layer give what they give on the whole graph."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphkd
from graphkd import Cache, Graph, StudentClassifier, digits
from graphkd.data import sorted_undirected, undirected
from graphkd.pipeline import distill_sampled
from graphkd.pipeline.distill_sampled import is_sampled
from graphkd.sparse import order
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import near
from graphkd.sparse.order import sorted_both_ways
from graphkd.sparse.shards import Shards
from graphkd.teachers import TEACHERS
from graphkd.teachers.layerwise import check_layerwise, layerwise, trimmed

STACKS: dict[str, dict[str, Any]] = {
    "sage": dict(type="sage", layers=3, hidden=16, norm="batch"),
    "sage, one layer": dict(type="sage", layers=1),
    "gcn": dict(type="gcn", layers=2),
    "gat": dict(type="gat", hidden=16, heads=4),
    "hopwise": dict(type="hopwise", conv="gin", hidden=16),
}
QUICK = StudentClassifier((64,), 0.0, epochs=20, batch_size=256, lr=0.01)
TEACHER = dict(type="sage", layers=3, hidden=32, fanout=[6, 4, 4], epochs=40, batch_size=64)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return sorted_undirected(digits())


def network_of(spec: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    options = dict(spec)
    network = TEACHERS[options.pop("type")](64, 10, **options)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d):  # or it would do nothing
            part.running_mean = torch.randn(part.num_features)
    return network.eval()


@pytest.mark.parametrize("name", STACKS)
def test_layer_by_layer_is_the_forward_on_the_whole_graph(graph: Graph, name: str) -> None:
    network = network_of(STACKS[name])
    crow, source = by_target(graph.edge_index, len(graph))
    with torch.no_grad():
        whole = network(graph.x.to_dense(), graph.edge_index)
    starts, parts = zip(*layerwise(network, graph.x.to_dense(), crow, source, block=300))
    assert starts == (0, 300, 600, 900, 1200, 1500)
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted({*STACKS} - {"gcn"}))  # which reads the degrees of sources, here in the part
def test_the_trimmed_forward_and_its_gradient_are_those_of_the_whole_graph(graph: Graph, name: str) -> None:
    network, x, seeds = network_of(STACKS[name]), graph.x.to_dense(), torch.tensor([5, 1700, 42])
    crow, source = by_target(graph.edge_index, len(graph))
    around = near(crow, source, seeds, len(network.layers))
    pairs = []
    for logits in (trimmed(network, x[around.nodes], around), network(x, graph.edge_index)[seeds]):
        gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
        pairs.append((logits, *gradients))
    for mine, whole in zip(*pairs):
        torch.testing.assert_close(mine, whole, atol=1e-4, rtol=1e-3)


def test_what_cannot_be_applied_layer_by_layer_is_refused(graph: Graph) -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return x

    crow, source = by_target(graph.edge_index, len(graph))
    for network in (TEACHERS["appnp"](64, 10), TEACHERS["sgc"](64, 10), TEACHERS["vqsage"](64, 10), Own()):
        with pytest.raises(ValueError, match=r"scale='full'"):
            check_layerwise(network.eval(), graph.x.to_dense(), graph.edge_index, crow, source)


def test_few_of_many_neighbours_are_drawn_evenly_and_once() -> None:
    """A hub with 20,000 neighbours: more than are put into a random order."""
    crow, source = torch.tensor([0, 20_000]), torch.arange(20_000) % 19_999 + 1
    crow = torch.cat([crow, torch.full((20_000,), 20_000)])
    draw, found = torch.Generator().manual_seed(0), torch.zeros(20_001)
    for _ in range(300):
        around = near(crow, source, torch.tensor([0]), 1, 100, draw)
        assert around.reached == [0, 100]
        found[around.nodes[1:]] += 1
    assert found[0] == 0
    assert 99 * 300 < found.sum() <= 100 * 300  # two of the places hold the same neighbour
    thirds = found[1:].tensor_split(3)
    for third in thirds:
        assert float(third.mean()) == pytest.approx(1.5, rel=0.05)


def test_edges_are_sorted_once_and_stay_where_they_are() -> None:
    given = Graph.of(
        SimpleNamespace(x=np.eye(5), y=[0, 1, 0, 1, 0], edge_index=[[3, 0, 1, 2, 3, 3], [0, 3, 2, 1, 3, 4]])
    )
    found, plain = sorted_undirected(given), undirected(given)
    assert sorted(zip(*found.edge_index.tolist())) == sorted(zip(*plain.edge_index.tolist()))
    assert found.edge_index[1].tolist() == sorted(found.edge_index[1].tolist())
    assert found.fingerprint() == plain.fingerprint()
    assert sorted_undirected(found) is found


@pytest.mark.parametrize("change", ["none", "one way", "another's reverse", "twice", "a loop", "order"])
def test_edges_in_order_and_both_ways_are_told_from_others(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_BLOCK", 7)
    draw = np.random.default_rng(0)
    pairs = {(a, b) for a, b in draw.integers(30, size=(60, 2)).tolist() if a != b}
    keys = sorted({(a, b) for a, b in pairs} | {(b, a) for a, b in pairs})
    free = next((a, b) for a in range(30) for b in range(30) if a != b and (a, b) not in keys)
    changed = {
        "none": keys,
        "one way": keys[1:],
        "another's reverse": sorted([*keys[1:], free]),
        "twice": sorted([*keys, keys[3], keys[3]]),
        "a loop": sorted([*keys, (3, 3)]),
        "order": keys[::-1],
    }[change]
    target, source = np.array(changed).T
    assert sorted_both_ways(source, target, 30) is (change == "none")


def test_the_scale_is_chosen_by_size(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_sampled(scale, graph) for scale in ("auto", "full", "sampled")] == [False, False, True]
    monkeypatch.setattr(distill_sampled, "NODES", 1796)
    assert is_sampled("auto", graph)
    assert not is_sampled("full", graph)
    with pytest.raises(ValueError, match="scale is 'auto', 'full' or 'sampled', not 'big'"):
        graphkd.distill(graph, scale="big")  # type: ignore[arg-type]


def test_a_sampled_teacher_teaches(graph: Graph, tmp_path: Path) -> None:
    result = graphkd.distill(graph, TEACHER, student=QUICK, scale="sampled", setting="tran", folder=tmp_path / "run")
    accuracy = {role: found["tran"] for role, found in result.metrics.items()}
    assert accuracy["teacher"] > accuracy["control"] + 0.02
    assert accuracy["student"] > accuracy["control"] + 0.02
    assert isinstance(result.cache.logits, Shards)
    network = result.outcomes["teacher"]["tran"].model
    with torch.no_grad():
        whole = network(graph.x.to_dense(), graph.edge_index)
    np.testing.assert_allclose(np.asarray(result.cache.logits), whole, atol=1e-4)
    assert result.cache.settings["teacher"]["fanout"] == [6, 4, 4]
    assert set(result.latency) == {"teacher", "student"}
    assert result.latency["teacher"]["one_node"] > 0
    with pytest.raises(FileExistsError, match="choose another folder"):
        graphkd.distill(graph, TEACHER, student=QUICK, scale="sampled", setting="tran", folder=tmp_path / "run")
    cache = Cache.load(tmp_path / "run" / "tran")
    again = graphkd.distill(graph, cache, student=QUICK, scale="sampled")  # of the setting that it is of
    assert again.metrics == result.metrics  # to the bit: nothing else is drawn


def test_unseen_nodes_stay_unseen(graph: Graph) -> None:
    result = graphkd.distill(graph, {**TEACHER, "epochs": 20}, student=QUICK, scale="sampled", setting="ind")
    cache, network = result.cache, result.outcomes["teacher"]["ind"].model
    logits = np.asarray(cache.logits)
    assert 0 < (~cache.observed).sum() < len(graph) / 4
    assert np.isnan(logits[~cache.observed]).all()
    seen = graph.subgraph(torch.from_numpy(np.flatnonzero(cache.observed)))
    with torch.no_grad():
        expected = network(seen.x.to_dense(), seen.edge_index)
    np.testing.assert_allclose(logits[cache.observed], expected, atol=1e-4)
    assert set(result.metrics["teacher"]) == {"observed", "ind", "prod", "cold"}
    assert result.metrics["teacher"]["ind"] > result.metrics["teacher"]["cold"]


def test_mistakes_are_told_before_anything_is_trained(graph: Graph) -> None:
    def run(teacher: Any = TEACHER, method: Any = "glnn", **options: Any) -> None:
        graphkd.distill(graph, teacher, method, student=QUICK, scale="sampled", setting="tran", **options)

    with pytest.raises(ValueError, match=r"fanout=\[5, 5\] has 2 numbers; expected one for each of 3 layers"):
        run({**TEACHER, "fanout": [5, 5]})
    with pytest.raises(ValueError, match="fanout is a whole number from 1, got 0"):
        run({**TEACHER, "fanout": 0})
    with pytest.raises(ValueError, match=r"cannot be applied layer by layer.*scale='full'"):
        run("appnp")
    with pytest.raises(ValueError, match=r"trains a teacher on labels alone; leave out \['tune'\]"):
        run({**TEACHER, "tune": {"type": "mcmi"}})
    with pytest.raises(ValueError, match="scale='sampled' takes one teacher"):
        run(["sage", "gcn"])
    with pytest.raises(ValueError, match=r"the method 'krd' needs .*noisy.* scale='sampled' keeps logits alone"):
        run(method="krd")
    with pytest.raises(ValueError, match="hidden"):
        run(method=dict(type="terms", distills=[dict(loss="mse", student=0, teacher=0)]))
    with pytest.raises(ValueError, match=r"pass module.cpu\(\).float\(\)"):
        run(TEACHERS["sage"](64, 10).double())
    with pytest.raises(TypeError, match="no option 'fanout'"):
        graphkd.distill(graph, TEACHER, student=QUICK, setting="tran")


@pytest.mark.parametrize("fails", [False, True])
def test_a_temporary_cache_goes_with_its_result(graph: Graph, tmp_path: Path, monkeypatch: Any, fails: bool) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(event: Any) -> None:
        if fails and event.role == "student":
            raise KeyboardInterrupt

    options: dict[str, Any] = dict(student=QUICK, scale="sampled", setting="tran", callback=stop)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            graphkd.distill(graph, {**TEACHER, "epochs": 30}, **options)
    else:
        result = graphkd.distill(graph, {**TEACHER, "epochs": 30}, **options)
        assert [*tmp_path.rglob("meta.json")]
        del result
    gc.collect()
    assert not [*tmp_path.iterdir()]


def test_a_student_without_batches_is_given_some(graph: Graph) -> None:
    student = StudentClassifier((8,), epochs=1)
    with pytest.warns(UserWarning, match="takes 4096 nodes a step"):
        assert distill_sampled.batched(student).batch_size == 4096
    assert student.batch_size is None  # the user's own stays as it is
    assert distill_sampled.batched(None).batch_size == 4096


def test_layers_that_read_no_edge_are_applied_and_measured(graph: Graph, tmp_path: Path) -> None:
    """`hopwise` has two more layers than hops."""
    result = graphkd.distill(
        graph,
        dict(type="hopwise", hidden=16, epochs=2),
        student=QUICK,
        setting="tran",
        scale="sampled",
        folder=tmp_path,
    )
    assert {"all_nodes", "one_node", "batch"} <= result.latency["teacher"].keys()
    with pytest.warns(UserWarning, match=r"folder=.* stays empty: the teacher is a cache already"):
        graphkd.distill(graph, result.cache, student=QUICK, scale="sampled", folder=tmp_path / "again")
    assert not (tmp_path / "again").exists()
