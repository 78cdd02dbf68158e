"""The graph of `big_graph.py` is what it says, its teacher is the network over all neighbours, and students learn."""

from __future__ import annotations

from pathlib import Path

import big_graph
import numpy as np
import pytest
import torch
from big_graph import BigGraph, distill, layerwise, make, slope, student_logits, teach

from graphkd.sparse.shards import Shards

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


def test_teacher_and_students(graph: BigGraph, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_graph, "BLOCK", 1000)
    monkeypatch.setattr(big_graph, "SHARDS", 2)
    cache, network = teach(graph, folder)
    assert isinstance(cache.logits, Shards)
    assert [len(part) for part in cache.logits.parts] == [3000, len(graph) - 3000]
    with torch.inference_mode():
        whole = network(torch.from_numpy(graph.x), graph.edge_index)
    np.testing.assert_allclose(np.asarray(cache.logits), whole, atol=1e-4)
    torch.testing.assert_close(torch.cat(list(layerwise(network, graph))), whole, atol=1e-4, rtol=1e-4)
    right = {"teacher": np.mean(whole[graph.test].argmax(1).numpy() == graph.y[graph.test])}
    for method in ("control", "glnn", "ffg2m"):
        run = distill(graph, cache, network, method, epochs=10, batch=512)
        right[method] = run.student.score(graph.x[graph.test], graph.y[graph.test])
        assert 0 < run.epoch < run.fit
        assert run.peak > 0
    logits = torch.cat(list(student_logits(run.student.network_, graph)))
    np.testing.assert_array_equal(logits.argmax(1), run.student.predict(graph.x))
    assert right["control"] < min(right["glnn"], right["ffg2m"])
    assert right["teacher"] > right["control"] + 0.2


def test_a_slope_of_one_is_linear_growth() -> None:
    assert slope([1, 4, 16], [3, 12, 48]) == pytest.approx(1)
    assert slope([1, 4, 16], [1, 16, 256]) == pytest.approx(2)
