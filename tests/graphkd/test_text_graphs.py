"""Graphs of texts: CANE-Cora, PyG's TAGDataset, and tables of one's own in three formats."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from graphkd.cli.distill import read_config, run_seed
from graphkd.data import Graph, load, of_tag, read_cane, read_texts, share_split, split_of, text_graph

ROOT = Path(__file__).parents[2]
TOPICS = {
    "Rivers": "water flows bank ströme 河川",
    "Rocks": "stone granite quartz 岩",
    "Winds": "air gust breeze ветер",
}


def written(nodes: int = 330) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Texts with words of their topic, in an order that is not that of their ids, which cite mostly their own topic."""
    draw = np.random.default_rng(0)
    names = list(TOPICS)
    rows = []
    for number in draw.permutation(nodes).tolist():
        topic = names[number % 3]
        words = [*draw.choice(TOPICS[topic].split(), 3), *draw.choice(["a", "the", "of,", '"quoted"', "and\nnew"], 5)]
        rows.append({"id": f"p{number}", "text": " ".join(words), "label": topic})
    edges = []
    for _ in range(4 * nodes):
        a, b = (int(each) for each in draw.integers(nodes, size=2))
        if a % 3 == b % 3 or draw.random() < 0.1:
            edges.append({"source": f"p{a}", "target": f"p{b}"})
    return rows, edges


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)


WRITERS = {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}


def files(folder: Path, nodes: Any, edges: Any, suffix: str = ".jsonl") -> tuple[Path, Path]:
    paths = folder / f"nodes{suffix}", folder / f"edges{suffix}"
    for path, rows in zip(paths, (nodes, edges)):
        WRITERS[suffix](path, rows)
    return paths


@pytest.mark.parametrize("suffix", WRITERS)
def test_tables_of_every_format_give_the_same_graph(tmp_path: Path, suffix: str) -> None:
    nodes, edges = written()
    graph = read_texts(*files(tmp_path, nodes, edges, suffix))
    assert graph.texts == tuple(row["text"] for row in nodes)
    assert graph.class_names == ("Rivers", "Rocks", "Winds")
    assert [graph.class_names[label] for label in graph.y.tolist()] == [row["label"] for row in nodes]
    pairs = {(edge["source"], edge["target"]) for edge in edges if edge["source"] != edge["target"]}
    both = pairs | {(b, a) for a, b in pairs}
    ids = [row["id"] for row in nodes]
    assert {(ids[a], ids[b]) for a, b in graph.edge_index.T.tolist()} == both
    assert graph.edge_index.shape[1] == len(both)
    taken = graph.subgraph(torch.tensor([7, 3]))
    assert taken.texts == (nodes[7]["text"], nodes[3]["text"])


def test_features_are_tfidf_of_the_texts(tmp_path: Path) -> None:
    graph = text_graph(["red red sea", "red sky", "blue sky sea"], [[0], [1]], [0, 1, 1], min_df=1)
    words = ["blue", "red", "sea", "sky"]
    count = np.array([[text.split().count(word) for word in words] for text in graph.texts or ()], dtype=float)
    weight = count * (np.log(4 / (1 + (count > 0).sum(0))) + 1)
    expected = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    np.testing.assert_allclose(graph.x.to_dense().numpy(), expected, rtol=1e-6)


def test_numbers_as_ids_and_labels_are_the_same_in_every_format(tmp_path: Path) -> None:
    nodes = [{"id": k, "text": f"word w{k % 4}", "label": label} for k, label in enumerate([10, 9, None, 10])]
    edges = [{"source": 0, "target": 3.0}]
    graphs = []
    for suffix in WRITERS:
        graph = read_texts(*files(tmp_path, nodes, edges, suffix), min_df=1)
        assert graph.class_names == ("9", "10")
        assert graph.y.tolist() == [1, 0, -1, 1]
        graphs.append(graph.fingerprint())
    assert len(set(graphs)) == 1


def test_a_column_of_the_split_is_the_split(tmp_path: Path) -> None:
    nodes, edges = written(30)
    for place, row in enumerate(nodes):
        row["split"] = ["train", "val", "test", ""][place % 4]
    split = split_of(read_texts(*files(tmp_path, nodes, edges)), seed=5)
    assert split.val.tolist() == [1, 5, 9, 13, 17, 21, 25, 29]
    assert len(split.train) + len(split.val) + len(split.test) == 23


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda nodes, edges: nodes[4].update(text=" "),
            r"nodes.jsonl, line 5: node '\w+' has no text; .*empty='keep'",
        ),
        (
            lambda nodes, edges: nodes[4].update(id=nodes[2]["id"]),
            r"nodes.jsonl, line 5: .* is there twice, first as .* 2",
        ),
        (lambda nodes, edges: nodes[4].update(id=None), "nodes.jsonl, line 5: the node has no id"),
        (lambda nodes, edges: nodes[4].pop("label"), "nodes.jsonl, line 5: there is no column 'label'"),
        (lambda nodes, edges: edges[3].update(target="p999"), "edges.jsonl, line 4: the edge names node 'p999', which"),
        (
            lambda nodes, edges: nodes[4].update(split="dev"),
            "line 5: split is 'train', 'val', 'test' or blank, not 'dev'",
        ),
    ],
)
def test_bad_tables_are_refused_by_file_and_line(tmp_path: Path, change: Any, message: str) -> None:
    nodes, edges = written(30)
    change(nodes, edges)
    with pytest.raises(ValueError, match=message):
        read_texts(*files(tmp_path, nodes, edges))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    good = files(tmp_path, *written(30))
    for name, content, message in (
        ("cut.jsonl", b'{"id": 1, "te', "is no JSON lines in UTF-8"),
        ("list.jsonl", b"[1]\n", "line 1 is no object"),
        ("latin.csv", "id,text,label\n1,na\xefve,a\n".encode("latin-1"), "is no CSV in UTF-8"),
        ("short.csv", b"id,text,label\n1,word\n", "line 2: 3 values expected"),
        ("long.csv", b"id,text,label\n1,a, word,x\n", "line 2: 3 values expected"),
        ("bad.parquet", b"PAR2", "is no Parquet"),
        ("nodes.xlsx", b"", "a table is one of .csv, .jsonl, .parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_texts(tmp_path / name, good[1])
    with pytest.raises(FileNotFoundError, match=r"no\.csv does not exist"):
        read_texts(tmp_path / "no.csv", good[1])


def test_empty_texts_may_be_kept(tmp_path: Path) -> None:
    nodes, edges = written(30)
    nodes[4]["text"] = ""
    graph = read_texts(*files(tmp_path, nodes, edges), empty="keep")
    assert graph.texts is not None
    assert graph.texts[4] == ""
    assert (graph.x.to_dense()[4] == 0).all()


def test_texts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 2 texts but labels of 3 nodes"):
        text_graph(["a", "b"], [[0], [1]], [0, 1, 0])
    with pytest.raises(ValueError, match="the text of node 1 is a float, not a string"):
        text_graph(["word", np.nan], [[0], [1]], [0, 1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no word is in enough texts"):
        text_graph(["", ""], [[0], [1]], [0, 1])


def test_a_graph_of_pyg_with_texts(tmp_path: Path) -> None:
    """The class itself, around a data set and a tokenizer made here."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from torch_geometric.data import Data, InMemoryDataset
    from torch_geometric.datasets import TAGDataset
    from transformers import PreTrainedTokenizerFast

    class Own(InMemoryDataset):
        name = "own-graph"

        def __init__(self) -> None:
            super().__init__()
            edge_index = torch.tensor([[0, 1, 2, 5], [1, 2, 3, 0]])
            self._data = Data(x=torch.eye(6), edge_index=edge_index, y=torch.tensor([[0], [1], [0], [1], [0], [1]]))

    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path / "words")
    texts = [f"text number {k}" for k in range(6)]
    parts = {"train": torch.tensor([0, 1]), "valid": torch.tensor([3, 2]), "test": torch.tensor([4, 5])}
    dataset = TAGDataset(str(tmp_path), Own(), str(tmp_path / "words"), text=texts, split_idx=parts, text_on_disk=True)
    graph = of_tag(dataset)
    assert graph.texts == tuple(texts)
    assert torch.equal(graph.x.to_dense(), torch.eye(6))
    assert graph.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert graph.edge_index.shape == (2, 8)
    assert split_of(graph, 3).val.tolist() == [3, 2]
    with pytest.raises(ValueError, match="has no texts: expected one string a node"):
        of_tag(SimpleNamespace(_data=dataset._data))


def test_texts_come_through_the_data_key_of_a_config(tmp_path: Path) -> None:
    nodes, edges = files(tmp_path, *written())
    path = tmp_path / "texts.py"
    path.write_text(
        f"_base_ = {str(ROOT / 'configs/_base_/graph.py')!r}\n"
        f"data = dict(type='texts', nodes={str(nodes)!r}, edges={str(edges)!r}, split=dict(type='shares', train=0.3))\n"
        "settings = ['tran']\nteacher = dict(epochs=30)\nstudent = dict(hidden=[16], epochs=30)\n"
        "methods = [dict(type='glnn')]\n"
    )
    config = read_config(path)
    graph = load(config["data"])
    assert len(split_of(graph, 0).train) == 99
    accuracy = {log["role"]: log["metrics"]["tran"] for log in run_seed(graph, config, "texts", 0, lambda: None)}
    assert accuracy["teacher"] > 90
    assert accuracy["distilled"] > 90


def test_a_data_key_that_is_wrong_is_refused() -> None:
    with pytest.raises(TypeError, match="graph 'digits' has no option 'nodes'"):
        load(dict(type="digits", nodes="a.csv"))
    with pytest.raises(KeyError, match="no split is called 'share'; did you mean 'shares'"):
        load(dict(type="digits", split="share"))
    with pytest.raises(TypeError, match="split 'shares' has no option 'trian'; did you mean 'train'"):
        load(dict(type="digits", split=dict(type="shares", trian=0.5)))
    with pytest.raises(KeyError, match="no graph is called 'text'; did you mean 'texts'"):
        load(dict(type="text"))
    with pytest.raises(ValueError, match="shares to train and to select must leave some for the test"):
        share_split(torch.zeros(10, dtype=torch.long), 0, train=0.9)


@pytest.mark.data
def test_cane_cora_is_as_the_card_says(data_root: Path) -> None:
    whole = read_cane(data_root / "CANE-Cora" / "raw")
    assert (len(whole), whole.edge_index.shape[1], whole.x.shape[1]) == (2277, 2 * 4771, 5644)
    assert int((whole.y == -1).sum()) == 66
    assert whole.texts is not None
    assert whole.texts[0].startswith("Several computer algorithms discovering patterns")
    graph = load("cane_cora", data_root)
    assert (len(graph), graph.edge_index.shape[1]) == (1990, 2 * 4577)
    assert torch.bincount(whole.y[whole.y >= 0]).tolist() == [645, 195, 351, 292, 321, 252, 155]
    assert (graph.y >= 0).all()
    assert graph.texts == tuple(whole.texts[node] for node in graph.node_id.tolist())
    same = (graph.y[graph.edge_index[0]] == graph.y[graph.edge_index[1]]).float().mean()
    assert same.item() == pytest.approx(0.80, abs=0.01)


@pytest.mark.data
def test_both_splits_of_cane_cora(data_root: Path) -> None:
    few = split_of(load("cane_cora", data_root), 0)
    graph: Graph = load(dict(type="cane_cora", split="shares"), data_root)
    many, other = split_of(graph, 0), split_of(graph, 1)
    assert (len(few.train), len(few.val), len(few.test)) == (140, 210, 1640)
    assert (len(many.train), len(many.val), len(many.test)) == (1194, 398, 398)
    assert set(Counter(graph.y[few.train].tolist()).values()) == {20}
    assert not torch.equal(many.train, other.train)
    assert torch.equal(many.train, split_of(graph, 0).train)
