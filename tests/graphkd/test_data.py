"""Preparation, splits and settings: the protocol's numbers, and that nothing leaks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from graphkd.data import Graph, Split, cpf_split, digits, load, observe, prepare, undirected

# nodes and undirected edges of the prepared graph; sizes of train, val and test; for seed 0 the first five training ids
# and the sums of the training and of the validation ids
PINNED = {
    "cora": (2485, 5069, (140, 210, 2135), [1014, 53, 432, 1907, 397], 178423, 250803),
    "citeseer": (2120, 3679, (120, 180, 1820), [77, 984, 925, 427, 1163], 136383, 204836),
    "photo": (7487, 119043, (160, 240, 7087), [1951, 5279, 1065, 595, 1436], 596389, 930721),
    "computers": (13381, 245778, (200, 300, 12881), [11418, 3702, 13282, 10407, 363], 1392790, 1903718),
    "physics": (34493, 247962, (100, 150, 34243), [29463, 33987, 20626, 678, 17773], 1792618, 2403844),
}


@pytest.mark.data
@pytest.mark.parametrize("name", PINNED)
def test_prepared_graphs_and_splits_are_those_of_the_protocol(name: str, data_root: Path) -> None:
    nodes, edges, sizes, first, train_sum, val_sum = PINNED[name]
    graph = load(name, data_root)
    split = cpf_split(graph.y, seed=0)
    assert (len(graph), graph.edge_index.shape[1]) == (nodes, 2 * edges)
    assert (len(split.train), len(split.val), len(split.test)) == sizes
    assert split.train[:5].tolist() == first
    assert (int(split.train.sum()), int(split.val.sum())) == (train_sum, val_sum)


@pytest.mark.data
def test_reading_leaves_the_data_folder_as_it_was(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = sorted(data_root.glob("Planetoid/**/*"))
    fresh, kept = load("cora", data_root), load("cora", data_root)
    assert sorted(data_root.glob("Planetoid/**/*")) == before
    assert fresh.fingerprint() == kept.fingerprint()


def test_digits_are_all_there() -> None:
    graph = digits()
    assert graph.x.shape == (1797, 64)
    assert torch.bincount(graph.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.bincount(graph.edge_index[1]).min() >= 5
    assert torch.equal(undirected(graph).edge_index.unique(dim=1), graph.edge_index.unique(dim=1))


def test_preparation_keeps_the_largest_component_once_and_both_ways() -> None:
    edges = torch.tensor([[0, 1, 1, 5, 2, 3, 4], [1, 0, 5, 1, 2, 4, 3]])  # 0-1-5 and 3-4; 2 has a self-loop alone
    graph = prepare(SimpleNamespace(x=torch.arange(6.0)[:, None], y=torch.tensor([0, 1, 0, 1, 0, 1]), edge_index=edges))
    assert graph.node_id.tolist() == [0, 1, 5]
    assert graph.x.to_dense().flatten().tolist() == [0, 1, 5]
    assert sorted(map(tuple, graph.edge_index.T.tolist())) == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("seed", [0, 3])
def test_split_takes_exactly_its_numbers_and_covers_every_node(seed: int) -> None:
    y = digits().y
    split = cpf_split(y, seed)
    assert (torch.bincount(y[split.train]) == 20).all()
    assert (torch.bincount(y[split.val]) == 30).all()
    together = torch.cat([split.train, split.val, split.test])
    assert torch.equal(together.sort().values, torch.arange(len(y)))


def test_inductive_setting_hides_a_fifth_and_every_edge_and_label_of_it() -> None:
    graph = digits()
    split = cpf_split(graph.y, 0)
    setting = observe(graph, split, "ind", 0)
    seen = setting.seen
    assert len(setting.unseen) == int(0.2 * len(split.test))
    assert not set(setting.unseen.tolist()) & set(setting.observed.tolist())
    assert torch.equal(torch.cat([setting.unseen, setting.test]).sort().values, split.test)
    assert torch.equal(setting.observed[setting.train], split.train)
    assert torch.equal(setting.observed[setting.val], split.val)
    told = torch.zeros(len(seen), dtype=torch.bool)
    told[setting.train] = told[setting.val] = True
    assert torch.equal(seen.y[told], graph.y[setting.observed][told])
    assert (seen.y[~told] == -1).all()
    dense = torch.zeros(len(graph), len(graph), dtype=torch.bool)
    dense[graph.edge_index[0], graph.edge_index[1]] = True
    induced = torch.zeros(len(seen), len(seen), dtype=torch.bool)
    induced[seen.edge_index[0], seen.edge_index[1]] = True
    assert torch.equal(induced, dense[setting.observed][:, setting.observed])


def test_transductive_setting_hides_labels_only() -> None:
    graph = digits()
    setting = observe(graph, cpf_split(graph.y, 0), "tran", 0)
    assert len(setting.unseen) == 0
    assert torch.equal(setting.seen.x, graph.x)
    assert (setting.seen.y >= 0).sum() == 500


@pytest.mark.parametrize("sparse", [False, True])
def test_subgraph_agrees_with_dense_indexing(sparse: bool) -> None:
    x = torch.rand(30, 40) * (torch.rand(30, 40) < (0.05 if sparse else 0.8))
    edges = torch.randint(30, (2, 90))
    graph = Graph.of(SimpleNamespace(x=x, y=torch.arange(30) % 3, edge_index=edges))
    assert (graph.x.layout is torch.sparse_csr) == sparse
    nodes = torch.tensor([7, 3, 29, 11])
    taken = graph.subgraph(nodes)
    assert torch.equal(taken.x.to_dense() if sparse else taken.x, x[nodes])
    expected = sorted((a, b) for a, b in edges.T.tolist() if a in nodes and b in nodes)
    assert sorted(map(tuple, nodes[taken.edge_index].T.tolist())) == expected


def test_fingerprint_knows_the_graph_but_not_the_order_of_its_edges() -> None:
    graph = digits()

    def changed(**parts: Tensor) -> str:
        return Graph(**{**vars(graph), **parts}).fingerprint()

    order = torch.randperm(graph.edge_index.shape[1])
    assert changed(edge_index=graph.edge_index[:, order]) == graph.fingerprint()
    assert changed(edge_index=graph.edge_index[:, 1:]) != graph.fingerprint()
    assert changed(x=graph.x + 1) != graph.fingerprint()
    assert changed(y=graph.y.flip(0)) != graph.fingerprint()


def data(**parts: object) -> SimpleNamespace:
    whole = dict(x=torch.rand(4, 2), y=torch.tensor([0, 1, 0, 1]), edge_index=torch.tensor([[0, 1], [1, 2]]))
    return SimpleNamespace(**{**whole, **parts})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(y=torch.tensor([0, 1, -1, 1])), r"1 labels are out of range, the first at node 2: -1; expected 0 to 1"),
        (dict(y=torch.tensor([0, 1, 0, 7]), num_classes=2), r"at node 3: 7; expected 0 to 1"),
        (dict(y=torch.tensor([0.0, 1.0, 0.5, 1.0])), "labels must be integers"),
        (dict(y=torch.zeros(3, dtype=torch.long)), r"got \(4, 2\) and \(3,\)"),
        (dict(x=torch.full((4, 2), torch.nan)), "8 features are NaN or infinite, the first at node 0"),
        (dict(edge_index=torch.tensor([[0, 1], [1, 9]])), "edge 1 joins nodes 1 and 9, but the graph has .* 0 to 3"),
        (dict(edge_index=torch.zeros(3, 2, dtype=torch.long)), r"expected edge_index \(2, E\)"),
        (dict(edge_index=None), "no tensor 'edge_index'"),
    ],
)
def test_a_bad_graph_is_named(parts: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph.of(data(**parts))


def test_a_bad_split_is_named() -> None:
    with pytest.raises(ValueError, match="the split has no val nodes"):
        Split(torch.tensor([0]), torch.tensor([], dtype=torch.long), torch.tensor([1]))
    with pytest.raises(ValueError, match="a node stands in it twice"):
        Split(torch.tensor([0]), torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(ValueError, match="class 1 has 30 nodes; the split needs 20 to train and 30 to select"):
        cpf_split(torch.from_numpy(np.repeat([0, 1], [90, 30])), 0)
    with pytest.raises(ValueError, match="has no test nodes"):
        cpf_split(torch.arange(100) % 2, 0)


def test_bad_names_are_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="did you mean 'cora'"):
        load("coora")
    with pytest.raises(ValueError, match="no setting is called 'inductive'"):
        observe(digits(), cpf_split(digits().y, 0), "inductive", 0)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="should lie in"):
        load("cora", tmp_path)
    monkeypatch.delenv("KD_DATA_ROOT", raising=False)
    with pytest.raises(FileNotFoundError, match="set KD_DATA_ROOT"):
        load("cora")
