"""The graph of `big_graph.py` is what it says, and it is distilled into logs."""

from __future__ import annotations

from pathlib import Path

import big_graph
import numpy as np
import pytest
import torch
from big_graph import BigGraph, logs, make, measure
from big_report import needs, projected, report, slope

from graphkd import Cache
from kdlosses.cli.report import table

SHARE = 0.002


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("big")


@pytest.fixture(scope="module")
def graph(folder: Path) -> BigGraph:
    return make(folder, SHARE)


def test_the_graph_is_undirected_without_doubles_and_sorted(graph: BigGraph) -> None:
    source, target = graph.edge_index.numpy()
    keys = target * len(graph) + source
    assert (np.diff(keys) > 0).all()
    assert np.array_equal(np.sort(source * len(graph) + target), keys)
    assert not (source == target).any()
    np.testing.assert_array_equal(graph.crow.diff(), np.bincount(target, minlength=len(graph)))
    assert len(graph) == round(SHARE * big_graph.NODES)
    assert 0.85 * SHARE * 2 * big_graph.EDGES < len(keys) <= SHARE * 2 * big_graph.EDGES
    assert graph.x.shape == (len(graph), 100)
    assert set(np.unique(graph.y)) == set(range(47))
    assert (graph.y[source] == graph.y[target]).mean() > 0.6  # communities
    assert len({*graph.train, *graph.val, *graph.test}) == len(graph.train) + len(graph.val) + len(graph.test)


def test_it_is_made_once_and_the_same_each_time(graph: BigGraph, folder: Path, tmp_path: Path) -> None:
    again = make(tmp_path, SHARE)
    assert torch.equal(again.edge_index, graph.edge_index)
    np.testing.assert_array_equal(again.x, graph.x)
    with pytest.raises(ValueError, match=r"holds the graph .* choose another --folder"):
        make(folder, SHARE, seed=1)


def test_it_is_distilled_and_logged(folder: Path, graph: BigGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"type": "sage", "hidden": 64, "epochs": 60, "batch_size": 64}
    monkeypatch.setattr(big_graph, "TEACHER", small)
    monkeypatch.setattr(big_graph, "make", lambda *_: graph)
    runs = measure(folder, SHARE, ["glnn", "ffg2m"], epochs=40)
    assert [run.method for run in runs] == ["glnn", "ffg2m"]
    assert runs[0].parts()["teacher"] > 0
    assert runs[1].parts()["teacher"] == 0  # read from the cache of the first
    accuracy = {role: told["tran"] for role, told in runs[0].result.metrics.items()}
    assert accuracy["teacher"] > accuracy["control"]
    assert accuracy["student"] > accuracy["control"]
    for run in runs:
        assert run.peak > 0
        assert sum(run.parts()[part] for part in ("teacher", "cache", "control", "student")) < run.seconds
    found = logs(runs, SHARE)
    assert [(log["role"], log["method"]) for log in found][:2] == [("teacher", "sage"), ("control", "supervised")]
    assert table(found).count("\n| ") == 6
    longer = [{part: 16 * seconds for part, seconds in log.get("parts", {}).items()} for log in found]
    larger = [{**log, "nodes": 4 * log["nodes"], "parts": parts} for log, parts in zip(found, longer)]
    assert "glnn: slope of log seconds, student: 2.00" in report(found + larger)
    text = projected(found + larger, 4 * 4 * len(graph), 16)
    hours = [16 * 4 * found[2]["parts"][part] / 3600 for part in ("teacher", "cache", "student")]
    assert [f"{each:,.1f} hours of one core, {each / 16:,.2f} in 16" in text for each in hours] == 3 * [True]


@pytest.mark.parametrize("nodes", [1_000, 16_000])
def test_the_bytes_of_a_cache_are_those_that_are_foreseen(nodes: int, tmp_path: Path) -> None:
    """And so for a billion nodes: beside them each shard has a few hundred bytes of heads."""
    for start in range(0, nodes, 500):
        logits = np.zeros((500, 47), np.float32)
        shard = Cache(logits, np.arange(start, start + 500), np.ones(500, bool), "f00d")
        shard.save_shard(tmp_path, start, nodes)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    foreseen = needs(nodes, 0)["cache"]
    assert foreseen == 197 * nodes
    assert 0 < written - foreseen < 1_000 * nodes / 500


def test_a_slope_of_one_is_linear_growth() -> None:
    assert slope([1, 4, 16], [3, 12, 48]) == pytest.approx(1)
    assert slope([1, 4, 16], [1, 16, 256]) == pytest.approx(2)
