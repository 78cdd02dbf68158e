"""Preparation, splits and settings: the protocol's numbers, and that nothing leaks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

from graphkd.data import Graph, Split, cpf_split, digits, load, make_setting, prepare, undirected

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
    setting = make_setting(graph, split, "ind", 0)
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
    setting = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
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
        (dict(y=torch.tensor([0.0, 1.0, 0.5, torch.inf])), "a target is infinite"),
        (dict(y=torch.zeros(3, dtype=torch.long)), r"got \(4, 2\) and \(3,\)"),
        (dict(x=torch.full((4, 2), torch.nan)), "8 features are NaN or infinite, the first at node 0"),
        (dict(edge_index=torch.tensor([[0, 1], [1, 9]])), "edge 1 joins nodes 1 and 9, but the graph has .* 0 to 3"),
        (dict(edge_index=torch.zeros(3, 2, dtype=torch.long)), r"expected edge_index \(2, E\)"),
        (dict(edge_index=None), "no tensor 'edge_index'"),
        (dict(edge_index=None, adj_t=torch.eye(4).to_sparse()), r"edge_index \(2, E\) and y \(N,\), not adj_t"),
        (dict(edge_index=torch.zeros(3, dtype=torch.long)), r"expected edge_index \(2, E\), got \(3,\)"),
        (dict(edge_index=torch.tensor([[0, 1], [1, 2], [2, 3]])), r"got \(3, 2\); pass edge_index.T"),
        (dict(edge_index=torch.tensor([[0.5], [1.0]])), "node numbers, which are integers; got torch.float32"),
        (dict(edge_index=torch.eye(4).to_sparse()), "edge_index is a sparse matrix"),
        (dict(edge_index=scipy.sparse.eye(4)), "edge_index is a sparse matrix"),
        (dict(edge_index="edges.txt"), "edge_index is a str; expected a tensor or an array"),
        (dict(edge_index=torch.tensor([[0, -1], [1, 2]])), "edge 1 joins nodes -1 and 2"),
        (dict(x=torch.rand(4)), r"expected features \(N, F\) and labels \(N,\), got \(4,\) and \(4,\)"),
        (dict(x=torch.rand(4, 0)), r"expected features \(N, F\)"),
        (dict(x=torch.ones(4, 2, dtype=torch.complex64)), "features must be real numbers, got torch.complex64"),
        (dict(x=[["a"], ["b"], ["c"], ["d"]]), "x is a list; expected a tensor or an array of numbers"),
        (dict(x=torch.tensor([[0.0, 0], [1, 0], [0, torch.inf], [0, 0]]).to_sparse()), "first at node 2; impute"),
        (dict(y=torch.eye(4)), r"got \(4, 2\) and \(4, 4\); of one-hot labels take y.argmax\(1\)"),
        (dict(y=["theory", "agents", "theory", 3]), "labels are numbers or strings, not both, got 3 beside strings"),
        (dict(y=np.array(["a", "b", "", "b"])), "1 labels are out of range, the first at node 2: -1"),
        (dict(y=torch.tensor([0.0, 1.0, torch.nan, 1.0])), "node 2: -1; .* see Graph.of\\(data, unlabelled='keep'\\)"),
        (dict(y=torch.zeros(4, dtype=torch.long)), "a classifier needs two classes"),
    ],
)
def test_a_bad_graph_is_named(parts: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph.of(data(**parts))


def test_labels_with_fractions_are_no_classes() -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        Graph.of(data(y=torch.tensor([0.0, 1.0, 0.5, 1.0])), task="single-label")


FORMS = {
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "double": lambda x: x.double(),
    "integers": lambda x: x.long(),
    "coo": lambda x: x.to_sparse(),
    "coo with duplicates": lambda x: torch.sparse_coo_tensor(
        x.nonzero().T.repeat(1, 2), (x[x != 0] / 2).repeat(2), x.shape
    ),
    "csr": lambda x: x.to_sparse_csr(),
    "csc": lambda x: x.to_sparse_csc(),
    "scipy csr": lambda x: scipy.sparse.csr_array(x.numpy()),
    "scipy coo": lambda x: scipy.sparse.coo_matrix(x.numpy()),
    "with gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_features_of_every_form_are_the_same_graph(form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 5, (30, 40), generator=generator) * (torch.rand(30, 40, generator=generator) < 0.05).float()
    edges, y = torch.randint(30, (2, 60)), torch.arange(30) % 3
    plain, other = (Graph.of(SimpleNamespace(x=z, y=y, edge_index=edges)) for z in (x, FORMS[form](x)))
    assert other.fingerprint() == plain.fingerprint()


def test_labels_and_edges_of_every_form_are_the_same_graph() -> None:
    x, y = torch.rand(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    plain = Graph.of(SimpleNamespace(x=x, y=y, edge_index=edges)).fingerprint()
    for labels in (y[:, None], y.float(), y.int(), y.numpy(), y.tolist(), y.to(torch.uint8)):
        assert Graph.of(SimpleNamespace(x=x, y=labels, edge_index=edges)).fingerprint() == plain
    for pairs in (edges.int(), edges.numpy(), edges.tolist()):
        assert Graph.of(SimpleNamespace(x=x, y=y, edge_index=pairs)).fingerprint() == plain


def test_pyg_data_with_an_edge_index_of_its_own_kind_is_taken() -> None:
    from torch_geometric import EdgeIndex
    from torch_geometric.data import Data

    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    kinds = (edges, EdgeIndex(edges, sparse_size=(3, 3), sort_order="row", is_undirected=True))
    graphs = [Graph.of(Data(x=torch.eye(3), y=torch.tensor([0, 1, 1]), edge_index=each)) for each in kinds]
    assert type(graphs[1].edge_index) is Tensor
    assert graphs[0].fingerprint() == graphs[1].fingerprint()


@pytest.mark.parametrize("prepared", [prepare, lambda data: undirected(Graph.of(data))], ids=["prepare", "undirected"])
def test_directions_loops_duplicates_and_order_change_nothing_after_preparation(prepared: object) -> None:
    source, target = digits().edge_index
    one_way = torch.stack([source, target])[:, source < target]
    loops = torch.arange(len(digits())).expand(2, -1)
    messy = torch.cat([one_way.flip(0), one_way[:, ::3], loops], 1)
    messy = messy[:, torch.randperm(messy.shape[1])]
    graphs = [prepared(SimpleNamespace(x=digits().x, y=digits().y, edge_index=e)) for e in (one_way, messy)]  # type: ignore[operator]
    assert graphs[0].fingerprint() == graphs[1].fingerprint()
    assert torch.equal(graphs[0].edge_index, graphs[1].edge_index)
    assert graphs[0].edge_index.unique(dim=1).shape == graphs[0].edge_index.shape
    assert prepared(graphs[0]).fingerprint() == graphs[0].fingerprint()  # type: ignore[operator]


def test_without_edges_there_is_no_largest_component() -> None:
    for edges in (torch.empty(2, 0), torch.tensor([[1], [1]])):
        with pytest.raises(ValueError, match="the graph has no edges"):
            prepare(data(edge_index=edges))


def test_nodes_without_a_label_are_kept_and_are_in_no_split() -> None:
    graph = digits()
    y = graph.y.clone()
    y[::7] = -1
    parts = dict(x=graph.x, edge_index=graph.edge_index)
    kept = Graph.of(SimpleNamespace(y=y, **parts), unlabelled="keep")
    again = Graph.of(SimpleNamespace(y=y.double().where(y >= 0, torch.nan), **parts), unlabelled="keep")
    assert kept.fingerprint() == again.fingerprint()
    assert kept.num_classes == 10
    split = cpf_split(kept.y, 0)
    together = torch.cat([split.train, split.val, split.test])
    assert torch.equal(together.sort().values, (y >= 0).nonzero().flatten())
    seen = make_setting(kept, split, "ind", 0)
    assert len(seen.observed) + len(seen.unseen) == len(graph)
    with pytest.raises(ValueError, match=r"node 7 of the split's test part has no label"):
        make_setting(kept, Split(split.train, split.val, torch.tensor([7])), "tran", 0)
    with pytest.raises(ValueError, match="node 0: -2"):
        Graph.of(SimpleNamespace(y=y.where(y >= 0, -2), **parts), unlabelled="keep")
    with pytest.raises(ValueError, match="unlabelled is 'raise' or 'keep', not 'drop'"):
        Graph.of(data(), unlabelled="drop")  # type: ignore[arg-type]


def test_a_split_that_does_not_fit_its_graph_is_named() -> None:
    graph = digits()
    split = cpf_split(graph.y, 0)
    with pytest.raises(ValueError, match="the split's val part names node 1797, but the graph has the nodes 0 to 1796"):
        make_setting(graph, Split(split.train, torch.tensor([1797]), split.test), "tran", 0)
    with pytest.raises(ValueError, match="the split's test part names node -1"):
        make_setting(graph, Split(split.train, split.val, torch.tensor([-1])), "tran", 0)
    without = Split(split.train[graph.y[split.train] != 3], split.val, split.test)
    with pytest.raises(ValueError, match="class 3 has no training node, but 163 nodes to select or to test on"):
        make_setting(graph, without, "tran", 0)
    known = [ids[graph.y[ids] != 3] for ids in (split.train, split.val, split.test)]
    assert len(make_setting(graph, Split(*known), "tran", 0).train) == 180  # nobody is asked about class 3


def test_a_bad_split_is_named() -> None:
    mask = torch.zeros(4, dtype=torch.bool).index_fill(0, torch.tensor([1]), True)
    with pytest.raises(
        ValueError, match=r"val part holds node ids.*got torch.bool \(4,\); of a mask take mask.nonzero"
    ):
        Split(torch.tensor([0]), mask, torch.tensor([2]))
    with pytest.raises(ValueError, match=r"test part holds node ids, a tensor .* of integers; got list"):
        Split(torch.tensor([0]), torch.tensor([1]), [2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the split has no val nodes"):
        Split(torch.tensor([0]), torch.tensor([], dtype=torch.long), torch.tensor([1]))
    with pytest.raises(ValueError, match="the parts of the split overlap"):
        Split(torch.tensor([0]), torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(ValueError, match="class 1 has 30 nodes; the split needs 20 to train and 30 to select"):
        cpf_split(torch.from_numpy(np.repeat([0, 1], [90, 30])), 0)
    with pytest.raises(ValueError, match="has no test nodes"):
        cpf_split(torch.arange(100) % 2, 0)


def test_bad_names_are_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="did you mean 'cora'"):
        load("coora")
    with pytest.raises(ValueError, match="no setting is called 'inductive'"):
        make_setting(digits(), cpf_split(digits().y, 0), "inductive", 0)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="should lie in"):
        load("cora", tmp_path)
    monkeypatch.delenv("KD_DATA_ROOT", raising=False)
    with pytest.raises(FileNotFoundError, match="set KD_DATA_ROOT"):
        load("cora")


def test_the_digits_graph_is_the_same_whatever_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    found = set()
    for number in (1, 2):
        torch.set_num_threads(number)
        found.add(digits().fingerprint())
    torch.set_num_threads(threads)
    images = np.round(16 * digits().x.numpy().astype(np.float64))
    near = [np.lexsort((np.arange(len(images)), ((images - image) ** 2).sum(1))) for image in images]
    pairs = {(i, int(j)) for i, row in enumerate(near) for j in [j for j in row[:6] if j != i][:5]}
    assert {*map(tuple, digits().edge_index.T.tolist())} == pairs | {(j, i) for i, j in pairs}
    assert found == {digits().fingerprint()}
