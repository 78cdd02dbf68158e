"""Graphs that are not at hand: files of the same schema, written here, go through the readers and into training."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array, csr_matrix

from graphkd import Graph, StudentClassifier, cpf_split, distill, load, make_setting
from graphkd.cli.distill import read_config, run_seed
from graphkd.data import split_of, undirected

ROOT = Path(__file__).parents[2]
NODES, WIDTH, CLASSES = 900, 40, 3
ALONE = 7  # the last nodes have no edge


class Drawn:
    """Features that hint at the class and edges, one way and some twice, that mostly stay within one."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.y = np.arange(NODES) % CLASSES
        draw.shuffle(self.y)
        self.x = (draw.random((NODES, WIDTH)) < 0.05).astype(np.float32)
        self.x[np.arange(NODES), self.y * 5 + draw.integers(0, 8, NODES)] = 1
        source, target = draw.integers(0, NODES - ALONE, (2, 6000))
        kept = (self.y[source] == self.y[target]) | (draw.random(6000) < 0.05)
        ring = np.arange(NODES - ALONE)  # keeps it in one piece
        self.edges = np.concatenate([np.stack([source, target])[:, kept], np.stack([ring, np.roll(ring, 1)])], axis=1)
        self.edges = np.concatenate([self.edges, self.edges[:, :50], self.edges[::-1, :50], [[3], [3]]], axis=1)
        order = draw.permutation(NODES)
        self.split = {"train": order[:400], "valid": order[400:600], "test": order[600:]}

    def joined(self) -> set[tuple[int, int]]:
        """Each edge both ways, no self-loop."""
        pairs = {(int(a), int(b)) for a, b in self.edges.T if a != b}
        return pairs | {(b, a) for a, b in pairs}


DRAWN = Drawn()


def write_planetoid(folder: Path) -> None:
    """`ind.pubmed.*`: the last 200 nodes stand in `tx` and `ty` in the order of `test.index`."""
    order = np.random.default_rng(1).permutation(np.arange(NODES - 200, NODES))
    labels = np.eye(CLASSES, dtype=np.int32)[DRAWN.y]
    near: dict[int, list[int]] = {node: [] for node in range(NODES)}
    for a, b in DRAWN.edges.T.tolist():
        near[a].append(b)
    parts: dict[str, Any] = {"graph": near}
    for name, nodes in {"": np.arange(60), "all": np.arange(NODES - 200), "t": order}.items():
        key = {"": ("x", "y"), "all": ("allx", "ally"), "t": ("tx", "ty")}[name]
        parts |= {key[0]: csr_matrix(DRAWN.x[nodes]), key[1]: labels[nodes]}
    for name, part in parts.items():
        (folder / f"ind.pubmed.{name}").write_bytes(pickle.dumps(part, protocol=2))
    (folder / "ind.pubmed.test.index").write_text("".join(f"{node}\n" for node in order))


def write_coauthor(folder: Path) -> None:
    x = csr_matrix(DRAWN.x * 3)  # counts, which the reader makes binary
    edges = coo_array((np.ones(DRAWN.edges.shape[1]), tuple(DRAWN.edges)), shape=(NODES, NODES)).tocsr()
    arrays = {
        f"{name}_{part}": value
        for name, matrix in {"attr": x, "adj": edges}.items()
        for part, value in vars(CSR(matrix)).items()
    }
    np.savez(folder / "ms_academic_cs.npz", labels=DRAWN.y, **arrays)


class CSR:
    def __init__(self, matrix: Any) -> None:
        self.data, self.indices, self.indptr, self.shape = matrix.data, matrix.indices, matrix.indptr, matrix.shape


def write_ogb(folder: Path, split: str) -> None:
    """As the package unpacks them: gzipped, comma-separated, without a header."""

    def write(name: str, table: np.ndarray, form: str) -> None:
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            np.savetxt(file, table, form, delimiter=",")

    write("raw/edge", DRAWN.edges.T, "%d")
    write("raw/node-feat", DRAWN.x, "%.6f")
    write("raw/node-label", DRAWN.y[:, None], "%d")
    write("raw/num-node-list", np.array([[NODES]]), "%d")
    write("raw/num-edge-list", np.array([[DRAWN.edges.shape[1]]]), "%d")
    for name, nodes in DRAWN.split.items():
        write(f"split/{split}/{name}", nodes[:, None], "%d")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("Planetoid/PubMed/raw", "Coauthor/CS/raw"):
        (root / name).mkdir(parents=True)
    write_planetoid(root / "Planetoid/PubMed/raw")
    write_coauthor(root / "Coauthor/CS/raw")
    write_ogb(root / "OGB/ogbn_arxiv", "time")
    write_ogb(root / "OGB/ogbn_products", "sales_ranking")
    return root


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("name", ["pubmed", "cs", "arxiv", "products"])
def test_what_is_read_is_what_was_written(root: Path, name: str) -> None:
    before = sorted(root.rglob("*"))
    for graph in (load(name, root), load(name, root)):  # from the raw files, and as kept
        of_ogb = name in ("arxiv", "products")
        assert graph.node_id.tolist() == list(range(NODES if of_ogb else NODES - ALONE))
        assert graph.num_classes == CLASSES
        x = graph.x.to_dense() if graph.x.layout is torch.sparse_csr else graph.x
        np.testing.assert_array_equal(x, DRAWN.x[graph.node_id])
        np.testing.assert_array_equal(graph.y, DRAWN.y[graph.node_id])
        assert len(graph.edge_index.T) == len(DRAWN.joined())
        assert set(map(tuple, graph.edge_index.T.tolist())) == DRAWN.joined()
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("name", ["arxiv", "products"])
def test_a_graph_of_ogb_brings_its_split_whatever_the_seed(root: Path, name: str) -> None:
    graph = load(name, root)
    for seed in (0, 1):
        split = split_of(graph, seed)
        for key, part in {"train": "train", "val": "valid", "test": "test"}.items():
            np.testing.assert_array_equal(getattr(split, key), DRAWN.split[part])
    assert undirected(graph).split is graph.split
    half = torch.arange(len(graph)).flip(0)[::2]
    left = graph.subgraph(half).split
    for key, part in (("train", "train"), ("val", "valid"), ("test", "test")):
        wanted = set(DRAWN.split[part].tolist()) & set(half.tolist())
        assert set(half[getattr(left, key)].tolist()) == wanted
    hidden = [make_setting(graph, split, "ind", seed).unseen for seed in (0, 1)]
    assert [len(nodes) for nodes in hidden] == [60, 60]  # a fifth of the test nodes
    assert not torch.equal(*hidden)
    student = StudentClassifier(hidden=(8,), epochs=2)
    found = distill(graph, dict(type="sage", epochs=2), "glnn", student=student, setting="ind", isolated="keep")
    observed = found.cache.observed
    assert observed[DRAWN.split["train"]].all()
    assert observed.sum() == NODES - 60


def test_a_graph_without_a_split_gets_that_of_the_protocol(root: Path) -> None:
    graph = load("pubmed", root)
    assert graph.split is None
    for seed in (0, 3):
        assert torch.equal(split_of(graph, seed).train, cpf_split(graph.y, seed).train)


@pytest.mark.parametrize("name", ["pubmed", "cs", "arxiv", "products"])
def test_their_configs_train_on_them(root: Path, name: str) -> None:
    config, plain = (read_config(ROOT / "configs" / "graph" / recipe / f"{name}.py") for recipe in ("ffg2m", "glnn"))
    assert {**config, "methods": config["methods"][:1]} == plain
    short = {"lr": 0.01, "dropout": 0.1}
    config["teacher"] |= {"epochs": 20, "hidden": 32, **short}
    config["student"] |= {"epochs": 8, "hidden": [32 for _ in config["student"]["hidden"]], **short}
    if "batch_size" in config["student"]:
        config["student"]["batch_size"] = 128
    config["methods"][1]["pairs"] = 100
    logs = run_seed(load(name, root), config, name, 0, lambda: None)
    assert {"tran", "ind", "prod", "cold"} <= set(logs[-1]["metrics"])
    for log in logs:
        assert log["metrics"]["tran"] > (70 if log["role"] == "teacher" else 45), log["method"]  # a third by chance


def test_files_that_do_not_fit_are_named(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "OGB/ogbn_arxiv"
    with pytest.raises(FileNotFoundError, match=r"'arxiv' should lie in .*OGB/ogbn_arxiv/raw"):
        load("arxiv", tmp_path)
    write_ogb(folder, "time")
    (folder / "split/time/valid.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"split/time/valid\.csv\.gz"):
        load("arxiv", tmp_path)
    with gzip.open(folder / "split/time/valid.csv.gz", "wt") as file:
        file.write("900\n")
    with pytest.raises(ValueError, match=r"split/time names node 900; there are features of 900 nodes"):
        load("arxiv", tmp_path)
    with gzip.open(folder / "split/time/valid.csv.gz", "wt") as file:
        file.write(f"{DRAWN.split['train'][0]}\n")
    with pytest.raises(ValueError, match="the parts of the split overlap"):
        load("arxiv", tmp_path)


def test_a_changed_split_is_read_anew(tmp_path: Path) -> None:
    folder = tmp_path / "OGB/ogbn_arxiv"
    write_ogb(folder, "time")
    graph = load("arxiv", tmp_path)
    with gzip.open(folder / "split/time/valid.csv.gz", "wt") as file:
        file.write("".join(f"{node}\n" for node in DRAWN.split["valid"][:30]))
    again: Graph = load("arxiv", tmp_path)
    assert graph.split is not None
    assert again.split is not None
    assert (len(graph.split.val), len(again.split.val)) == (200, 30)
