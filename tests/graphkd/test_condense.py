"""Sets of graphs condensed to frequent sets of computation trees, and networks trained on these."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.utils import scatter

import graphkd
from graphkd.cli import condense as command
from graphkd.condensing import Condensed, condense, train_condensed
from graphkd.condensing.frequent import frequent_sets
from graphkd.condensing.learning import check_student
from graphkd.condensing.mirage import mirage
from graphkd.condensing.trees import forest, tree_codes
from graphkd.data import Graph
from graphkd.data.cpf import share_split
from graphkd.data.kinds import as_graph
from graphkd.data.reads import GraphSet
from graphkd.teachers import TEACHERS

QUICK: dict[str, Any] = dict(type="gin", hidden=16, dropout=0.0, lr=0.01, epochs=2, batch_size=16)


def drawn(nodes: int, edges: int, seed: int, kinds: int = 2) -> tuple[Tensor, Tensor]:
    """Kinds of nodes and edges in both directions."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(nodes)).T
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[:edges]]
    return torch.randint(kinds, (nodes,), generator=generator), torch.cat([pairs, pairs.flip(0)], 1)


def both(*pairs: tuple[int, int]) -> Tensor:
    ends = torch.tensor(pairs).T
    return torch.cat([ends, ends.flip(0)], 1)


def graphs_with_a_motif(count: int = 120, noise: int = 30) -> Graph:
    """A path of nodes of random kinds, and three nodes whose edges tell the class."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for place in range(count):
        kind = torch.cat([torch.randint(4, (noise,), generator=generator), torch.tensor([4, 5, 4])])
        path = [(node, node + 1) for node in range(noise - 1)]
        motif = [(noise, noise + 1), (noise + 1, noise + 2), (noise, noise + 2)][: 2 + place % 2]
        x = torch.nn.functional.one_hot(kind, 6).float()
        parts.append(SimpleNamespace(x=x, edge_index=both(*path, *motif), y=place % 2))
    return as_graph(parts)


MOTIFS = graphs_with_a_motif()
FOUND = dict(type="mirage", hops=2, thresholds=0.9)


# ---- trees


def unrolled(kind: Tensor, edges: Tensor, labels: Tensor, root: int, hops: int) -> networkx.DiGraph:
    """The computation tree of a node, built branch by branch."""
    tree = networkx.DiGraph()
    tree.add_node(0, kind=(True, int(kind[root])))
    border = [(0, root)]
    for _ in range(hops):
        below = []
        for parent, node in border:
            for edge in (edges[1] == node).nonzero().flatten().tolist():
                child = len(tree)
                tree.add_node(child, kind=(False, int(kind[edges[0, edge]])))
                tree.add_edge(parent, child, label=int(labels[edge]))
                below.append((child, int(edges[0, edge])))
        border = below
    return tree


@pytest.mark.parametrize("hops", [1, 3])
def test_codes_are_equal_where_trees_are_isomorphic(hops: int) -> None:
    kind, edges = drawn(7, 6, 0, kinds=1)
    other, more = drawn(6, 5, 5, kinds=1)
    kind, edges = torch.cat([kind, other]), torch.cat([edges, more + 7], 1)
    labels, kind[3] = edges.sum(0) % 2, 1
    codes = tree_codes(kind, edges, hops, labels)[-1].tolist()
    trees = [unrolled(kind, edges, labels, node, hops) for node in range(len(kind))]
    alike = [
        networkx.is_isomorphic(
            trees[one], trees[two], lambda a, b: a["kind"] == b["kind"], lambda a, b: a["label"] == b["label"]
        )
        for one, two in itertools.combinations(range(len(kind)), 2)
    ]
    assert [codes[one] == codes[two] for one, two in itertools.combinations(range(len(kind)), 2)] == alike
    assert any(alike)
    assert not all(alike)
    path, alone = both((0, 1), (1, 2)), torch.zeros(3, dtype=torch.long)
    assert tree_codes(alone, path, hops)[-1].unique(return_counts=True)[1].tolist() == [2, 1]
    assert len(tree_codes(alone, path, hops, torch.tensor([0, 1, 0, 1]))[-1].unique()) == 3


@pytest.mark.parametrize("name", ["gcn", "gat", "gin", "sage"])
def test_a_root_has_the_embedding_of_its_node(name: str) -> None:
    kind, edges = drawn(12, 16, 3, kinds=3)
    edges = edges[:, (edges != 11).all(0)]  # one node without a neighbour
    features = torch.randn(3, 5)
    degree = torch.bincount(edges[1], minlength=12)
    codes = tree_codes(kind * 16 + degree, edges, 3)
    trees = codes[-1].unique()
    built = forest(codes, edges, trees)
    made = Condensed(
        features,
        kind[built.node],
        built.edge_index,
        built.missing,
        trees,
        torch.tensor([len(trees)]),
        torch.tensor([0]),
        torch.tensor([1]),
        torch.tensor([1]),
        3,
    )
    network = TEACHERS[name](5, 4, layers=3, hidden=8).eval().double()
    graph, (x, ends, _, roots) = features[kind].double(), made.take(torch.tensor([0]))
    with torch.no_grad():
        torch.testing.assert_close(
            network(x.double(), ends)[roots][codes[-1]], network(graph, edges), rtol=0, atol=1e-6
        )
        if name == "gcn":  # it counts the neighbours of leaves, too
            bare = network(features[kind[built.node]].double(), built.edge_index)[trees][codes[-1]]
            assert not torch.allclose(bare, network(graph, edges), atol=1e-3)
        deeper = TEACHERS[name](5, 4, layers=4, hidden=8).eval().double()
        assert not torch.allclose(deeper(x.double(), ends)[roots][codes[-1]], deeper(graph, edges), atol=1e-3)


# ---- frequent sets


def test_frequent_sets_are_those_of_a_brute_force() -> None:
    table = torch.rand(14, 7, generator=torch.Generator().manual_seed(2)) < 0.55
    table[:, 6] = table[:, 5]  # two items that are always together
    rows = [frozenset((10 * row.nonzero().flatten()).tolist()) for row in table]
    support = {
        frozenset(items): sum(set(items) <= row for row in rows)
        for size in range(1, 8)
        for items in itertools.combinations(range(0, 70, 10), size)
    }
    for least in (1, 4, 7):
        wanted = {items: count for items, count in support.items() if count >= least}
        closed = {a: n for a, n in wanted.items() if not any(a < b and n == m for b, m in wanted.items())}
        maximal = {a: n for a, n in wanted.items() if not any(a < b for b in wanted)}
        assert len(wanted) > len(closed) > len(maximal) > 0
        for kind, expected in (("frequent", wanted), ("closed", closed), ("maximal", maximal)):
            found = frequent_sets(rows, least, kind)
            assert {frozenset(items): count for items, count in found} == expected
            assert len(found) == len(expected)


@pytest.mark.parametrize("counts", [False, True])
def test_rows_are_sets_of_trees_that_so_many_graphs_of_the_class_have(counts: bool) -> None:
    parts = []
    for place in range(8):
        kind, edges = drawn(6, 5 + place % 2, place)
        parts.append(SimpleNamespace(x=kind[:, None].float(), edge_index=edges, y=place % 2))
    graph = as_graph(parts)
    assert isinstance(graph.reads, GraphSet)
    made = mirage(graph.reads, graph.y, 2, hops=1, thresholds=[2, 0.5], counts=counts)
    kind, edges = graph.reads.x[:, 0].long(), graph.reads.edge_index

    def tree(kinds: Tensor, ends: Tensor, node: int) -> tuple[int, tuple[int, ...]]:
        return int(kinds[node]), tuple(sorted(kinds[ends[0][ends[1] == node]].tolist()))

    have = [
        Counter(tree(kind, edges, node) for node in (graph.reads.batch == place).nonzero().flatten().tolist())
        for place in range(8)
    ]
    own = made.features[made.kind][:, 0].long()
    for row, roots in enumerate(made.roots.split(made.sizes.tolist())):
        label = int(made.y[row])
        trees = Counter(tree(own, made.edge_index, root) for root in roots.tolist())
        having = [have[place] for place in range(label, 8, 2) if trees.keys() <= have[place].keys()]
        assert len(having) == made.count[row] >= 2
        for each, repeats in trees.items():
            assert repeats == (round(sum(found[each] for found in having) / len(having)) if counts else 1)
    chance = made.weight
    assert chance.sum().item() == pytest.approx(1)
    for label in range(2):
        mine = made.y == label
        assert chance[mine].sum().item() == pytest.approx(0.5)
        torch.testing.assert_close(
            chance[mine] / chance[mine].sum(), made.count[mine] / made.count[mine].sum().double()
        )


def test_the_order_of_nodes_does_not_matter() -> None:
    assert isinstance(MOTIFS.reads, GraphSet)
    graphs, order = MOTIFS.reads, torch.cat([torch.randperm(33) + 33 * place for place in range(120)])
    moved = GraphSet(graphs.x[order], order.argsort()[graphs.edge_index], graphs.batch, graphs.count)
    one, two = (mirage(each, MOTIFS.y, 2, thresholds=0.9) for each in (graphs, moved))
    assert (one.bytes, one.count.tolist(), one.sizes.tolist()) == (two.bytes, two.count.tolist(), two.sizes.tolist())


# ---- training


def test_a_student_learns_more_from_few_bytes_of_trees_than_of_graphs(tmp_path: Path) -> None:
    found = {}
    made = condense(MOTIFS, FOUND)
    made.save(tmp_path / "trees.safetensors")
    condense(MOTIFS, "whole").save(tmp_path / "all.safetensors")
    few = condense(MOTIFS, dict(type="random", bytes=made.bytes))
    small, large = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("trees", "all"))
    assert small < 0.1 * large
    for name, each in (("trees", Condensed.load(tmp_path / "trees.safetensors")), ("random", few)):
        result = train_condensed(each, {**QUICK, "epochs": 12}, MOTIFS, scoring="roc_auc")
        found[name] = result.test["roc_auc"]
    assert found["trees"] > 0.9, found
    assert found["trees"] > found["random"] + 0.15, found


def test_pooled_roots_are_those_of_the_rows_drawn() -> None:
    made = condense(MOTIFS, dict(type="whole"))
    graphs = MOTIFS.reads
    assert isinstance(graphs, GraphSet)
    rows = torch.tensor([4, 1, 4])
    x, ends, batch, roots = made.take(rows)
    network = TEACHERS["gin"](6, 3, layers=2, hidden=8).eval()
    with torch.no_grad():
        found = scatter(network(x, ends)[roots], batch, reduce="mean")
        two = graphs.take(share_split(MOTIFS.y, 0).train[rows[:2]])
        wanted = scatter(network(two.x, two.edge_index), two.batch, reduce="mean")
    torch.testing.assert_close(found, wanted[[0, 1, 0]])
    assert len(x) == 66  # of the row that is named twice once


def test_only_training_graphs_are_condensed_and_only_validation_selects() -> None:
    split = share_split(MOTIFS.y, 0)
    graphs, y = MOTIFS.reads, MOTIFS.y.clone()
    assert isinstance(graphs, GraphSet)
    y[split.test] = 1 - y[split.test]
    outside = ~torch.isin(graphs.batch, split.train)
    x = torch.where(outside[:, None], graphs.x.roll(1, 1), graphs.x)
    spoilt = Graph(**{**vars(MOTIFS), "y": y, "reads": GraphSet(x, graphs.edge_index, graphs.batch, graphs.count)})
    one, two = condense(MOTIFS, FOUND), condense(spoilt, FOUND)
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in ("kind", "edge_index", "roots", "count"))
    labels = Graph(**{**vars(MOTIFS), "y": y})
    first, second = (train_condensed(one, QUICK, each) for each in (MOTIFS, labels))
    assert first.val == second.val
    assert first.test["accuracy"] == pytest.approx(1 - second.test["accuracy"])
    with pytest.warns(UserWarning, match="condensed with another split"):
        train_condensed(one, QUICK, MOTIFS, seed=1)


def test_a_network_of_ones_own_and_a_saved_set(tmp_path: Path) -> None:
    class Mine(torch.nn.Module):
        def __init__(self, in_features: int, classes: int) -> None:
            super().__init__()
            self.body = TEACHERS["sage"](in_features, classes, hidden=8)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, roots: Tensor | None = None) -> Tensor:
            out = self.body(x, edge_index)
            return scatter(out if roots is None else out[roots], batch, reduce="mean")

    made = condense(MOTIFS, dict(FOUND, degrees=True))
    file = tmp_path / "small.safetensors"
    made.save(file)
    again = Condensed.load(file)
    assert repr(again) == repr(made)
    assert again.settings == made.settings
    for one, two in zip(made.take(torch.tensor([1, 0])), again.take(torch.tensor([1, 0]))):
        assert torch.equal(one, two)
    results = [train_condensed(each, dict(type=Mine, epochs=2), MOTIFS) for each in (made, again)]
    assert isinstance(results[0].model, Mine)
    assert results[0].val == results[1].val
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="holds no whole condensed set of graphs"):
        Condensed.load(file)
    student = graphkd.StudentClassifier(hidden=(4,), epochs=1).fit(torch.randn(4, 2), [0, 1, 0, 1])
    student.save(file)
    with pytest.raises(ValueError, match="holds no condensed set of graphs"):
        Condensed.load(file)


def test_graphs_of_one_node_and_without_edges_are_kept() -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    parts = [SimpleNamespace(x=torch.full((1 + k % 3, 1), float(k % 2)), edge_index=none, y=k % 2) for k in range(30)]
    made = condense(parts, dict(type="mirage", thresholds=1.0))
    assert made.sizes.tolist() == [1, 1]
    assert train_condensed(made, {**QUICK, "epochs": 5}, parts).test["accuracy"] == 1


# ---- mistakes


def changed(x: Any = None, y: Any = None, loop: bool = False) -> list[Any]:
    """Six paths of three nodes."""
    edges = torch.cat([both((0, 1), (1, 2)), torch.tensor([[2], [2]])], 1) if loop else both((0, 1), (1, 2))
    return [
        SimpleNamespace(x=torch.ones(3, 1) if x is None else x, edge_index=edges, y=k % 2 if y is None else y[k])
        for k in range(6)
    ]


SPLIT = ([0, 1, 2, 3], [4], [5])


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        (changed(x=torch.rand(3, 1)), {}, "features of nodes are no kinds: graph 0 has .* in column 0"),
        (changed(loop=True), {}, "graph 0 has an edge from a node to itself"),
        (changed(y=[0, 0, 0, 0, 1, 1]), {}, "class 1 of 2 has no graph in the training part"),
        (changed(), dict(thresholds=[1, 3]), r"class 1 leaves no set: it asks for 3 of 2 graphs.* is in 2 \(1\)"),
        (changed(), dict(thresholds=[0.5]), "thresholds is one number, or one for each of 2 classes"),
        (changed(), dict(thresholds=0.0), "threshold of class 0 is a share above 0"),
        (changed(), dict(thresholds=1.5), "threshold of class 0 is a whole number from 1, got 1.5"),
        (changed(), dict(hops=0), "hops is a whole number from 1, got 0"),
        (changed(), dict(sets="open"), "sets is one of 'frequent', 'closed', 'maximal', got 'open'"),
        (graphkd.digits(), {}, "what is condensed is a set of graphs with classes"),
    ],
)
def test_mistakes_are_named(data: Any, method: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        condense(data, {"type": "mirage", **method}, split=None if isinstance(data, Graph) else SPLIT)


def test_mistakes_of_names_and_of_students() -> None:
    with pytest.raises(KeyError, match="did you mean 'mirage'"):
        condense(MOTIFS, "mirrage")
    with pytest.raises(TypeError, match="has no option 'threshold'; did you mean 'thresholds'"):
        condense(MOTIFS, dict(type="mirage", threshold=0.1))
    with pytest.raises(ValueError, match=r"there may be .* frequent sets: 18 items stand together 1 times"):
        frequent_sets([frozenset(range(18))], 1, "frequent")
    with pytest.raises(TypeError, match="condenser 'random' needs the option 'bytes'"):
        condense(MOTIFS, "random")
    for name in ("degrees", "counts"):
        with pytest.raises(TypeError, match=f"{name} is True or False, got 'no'"):
            condense(MOTIFS, {"type": "mirage", name: "no"})
    made = condense(MOTIFS, FOUND)
    with pytest.raises(KeyError, match="no student of a condensed set is called 'gim'; did you mean 'gin'"):
        train_condensed(made, "gim")
    with pytest.raises(TypeError, match=r"is what condense or Condensed\.load returns, got str"):
        train_condensed("small.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split says which graphs of data are scored, and there are none"):
        train_condensed(made, "gin", split=SPLIT)
    with pytest.raises(ValueError, match="has 3 layers, and the trees have 2 hops"):
        train_condensed(made, dict(type="gin", layers=3))
    with pytest.raises(ValueError, match="'appnp' is no student of a condensed set"):
        train_condensed(made, "appnp")
    with pytest.raises(ValueError, match="it was made of others"):
        train_condensed(made, "gin", changed(), split=SPLIT)


@pytest.mark.parametrize("given", [torch.tensor([0.75, 1.0]), np.array([0.75, 1.0], np.float32), torch.tensor(0.9)])
def test_thresholds_may_be_arrays(given: Any) -> None:
    told = given.tolist()
    one, two = (condense(MOTIFS, {**FOUND, "thresholds": each}) for each in (given, told))
    assert one.count.tolist() == two.count.tolist()


def test_without_mlxtend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.frequent_patterns", None)
    with pytest.raises(ImportError, match=r"finding frequent sets needs mlxtend: pip install graphdensekd\[condense\]"):
        condense(MOTIFS, FOUND)


# ---- the command

CONFIG = """
data = "condense_parts:graphs"
methods = [dict(type="mirage", hops=2)]
thresholds = [0.9, {threshold}]
students = ["gin", "gcn"]
student = dict(hidden=8, dropout=0.0, lr=0.01, epochs=1)
steps = 2
scoring = ["roc_auc", "accuracy"]
"""


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs" / "condensed").glob("*.py")))
def test_our_configs_are_read(path: Path) -> None:
    config = command.read_config(path)
    assert config["data"]["split"] == dict(type="shares", train=0.8, val=0.1)
    for network in config["students"]:
        check_student({**config["student"], "type": network}, config["methods"][0]["hops"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "threshold = [0.1]",
            "has a key 'threshold', which no config of condensed sets has: did you mean 'thresholds'",
        ),
        ("thresholds = []", "thresholds is a list, and not an empty one"),
        ("students = ['gin', 'gin']", "lists 'gin' twice"),
        ("methods = [dict(type='mirage', thresholds=0.1)]", "thresholds are those of the config"),
        ("student = dict(type='gcn')", "student is a dict of options of all students"),
    ],
)
def test_mistakes_in_a_config(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(f"{CONFIG.format(threshold=0.5)}\n{line}\n")
    with pytest.raises(SystemExit, match=message):
        command.main([str(tmp_path / "made.py"), "--out", str(tmp_path / "log.json")])


def test_the_command_trains_networks_as_deep_as_the_least_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "condense_parts", SimpleNamespace(graphs=lambda: MOTIFS))
    config, out = tmp_path / "made.py", tmp_path / "log.json"
    more = (
        "methods = [dict(type='mirage', hops=2), dict(type='mirage', hops=1)]\nthresholds = [0.95]\nstudents = ['gin']"
    )
    config.write_text(f"{CONFIG.format(threshold=0.95)}\n{more}\n")
    run = [str(config), "--seeds", "1", "--out", str(out)]
    with pytest.raises(SystemExit, match=r"made\.py is a file; choose another folder"):
        command.main([*run, "--save", str(config)])
    command.main(run)
    assert [log["method"] for log in json.loads(out.read_text())[2:]] == ["mirage(hops=2)", "mirage(hops=1)"]
    config.write_text(f"{config.read_text()}student = dict(layers=2, hidden=8, epochs=1)\n")
    monkeypatch.setattr("graphkd.training.loop.backward", lambda *given: pytest.fail("something was trained"))
    with pytest.raises(SystemExit, match="has 2 layers, and the trees have 1 hops"):
        command.main([*run, "--force"])


def test_the_command_writes_sets_and_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "condense_parts", SimpleNamespace(graphs=lambda: MOTIFS))
    monkeypatch.chdir(tmp_path)
    config, out = tmp_path / "made.py", tmp_path / "log.json"
    config.write_text(CONFIG.format(threshold=1000))
    run = [str(config), "--seeds", "1", "--out", str(out), "--save", "sets"]
    with pytest.raises(SystemExit, match="threshold of class 0 leaves no set: it asks for 1000 of"):
        command.main(run)
    assert [path.name for path in tmp_path.iterdir()] == ["made.py"]
    config.write_text(CONFIG.format(threshold=0.95))
    command.main(run)
    table = capsys.readouterr().out
    logs = json.loads(out.read_text())
    assert [(log["role"], log["method"]) for log in logs] == [
        ("reference", "all graphs"),
        ("control", "random graphs"),
        ("distilled", "mirage"),
    ]
    every, few, taught = logs
    (file,) = (tmp_path / "sets").iterdir()
    made = Condensed.load(file)
    assert taught["metrics"]["kB"] == made.bytes / 1e3 < 0.2 * every["metrics"]["kB"]
    assert few["metrics"]["rows"] >= 2
    best = max(taught["candidates"], key=lambda each: each["val"])
    assert taught["thresholds"] == best["thresholds"]
    assert best["val"] == pytest.approx(sum(each["val"] for each in taught["settings"].values()) / 2)
    result = train_condensed(
        made, dict(type="gcn", hidden=8, dropout=0.0, lr=0.01, epochs=1), MOTIFS, steps=2, scoring="roc_auc"
    )
    assert taught["metrics"]["gcn roc_auc"] == pytest.approx(100 * result.test["roc_auc"])
    assert "distilled, mirage" in table
    assert "random graphs" not in table  # the table calls it by its role
    other = file.with_name(file.name.replace("seed0", "seed1"))
    other.touch()
    with pytest.raises(SystemExit, match="is there already: choose another --save"):
        command.main([*run, "--seeds", "2"])
    command.main(run[:-2])  # nothing is left to do
    assert json.loads(out.read_text()) == logs
