"""Tables of texts as people have them: what stands for no label, values of any type, broken files, odd characters."""

from __future__ import annotations

import datetime
import decimal
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from graphkd.data import read_texts, text_graph
from graphkd.data.texts import whole_characters

SUFFIXES = (".csv", ".jsonl", ".parquet")


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Columns as a table in the format of the suffix."""
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = [list(columns), *([("" if v is None else str(v)) for v in row.values()] for row in rows)]
        path.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def read(folder: Path, suffix: str, labels: list[Any], **options: Any) -> Any:
    count = len(labels)
    own = dict(id=list(range(count)), text=[f"word w{k % 3}" for k in range(count)], label=labels)
    edges = dict(source=list(range(count - 1)), target=list(range(1, count)))
    nodes = write(folder / f"n{suffix}", {**own, **options})
    return read_texts(nodes, write(folder / f"e{suffix}", edges), min_df=1)


NAN = float("nan")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("labels", "names", "y"),
    [
        ([0, 1, -1, 1, 0], ("0", "1"), [0, 1, -1, 1, 0]),
        ([0.0, 1.0, -1.0, NAN, 10.0], ("0", "1", "10"), [0, 1, -1, -1, 2]),
        ([1.0, 0.0, None, 1.0, 0.0], ("0", "1"), [1, 0, -1, 1, 0]),
        (["0", "1", "-1", "", "-1.0"], ("0", "1"), [0, 1, -1, -1, -1]),
        (["b", "a", "-1", None, " "], ("a", "b"), [1, 0, -1, -1, -1]),
        ([True, False, None, True, False], ("False", "True"), [1, 0, -1, 1, 0]),
        ([7, 100, 9, None, 7], ("7", "9", "100"), [0, 2, 1, -1, 0]),
        ([" b", "a ", "b", "a", "b"], ("a", "b"), [1, 0, 1, 0, 1]),
    ],
)
def test_what_is_no_label_is_no_class(tmp_path: Path, suffix: str, labels: Any, names: Any, y: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = read(tmp_path, suffix, labels)
    assert (graph.class_names, graph.y.tolist(), graph.num_classes) == (names, y, len(names))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>"])
def test_words_for_nothing_are_no_label_and_that_is_said(tmp_path: Path, suffix: str, word: str) -> None:
    with pytest.warns(UserWarning, match=f"2 labels '{word}' are read as no label; rename a class of that name"):
        graph = read(tmp_path, suffix, ["a", word, "b", word, "a"])
    assert (graph.class_names, graph.y.tolist()) == (("a", "b"), [0, -1, 1, -1, 0])


def test_numbers_among_names_are_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the labels are numbers and names, '1' and 'cat' among them"):
        graph = read(tmp_path, ".jsonl", [1, "1", "cat", 2.0, "cat"])
    assert (graph.class_names, graph.y.tolist()) == (("1", "2", "cat"), [0, 0, 2, 1, 2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -2, 0], "-2 is no class: -1 stands for no label"),
        ([0.5, 1.0, 0.5, 1.0], r"the label 0\.5 is no whole number"),
        (["-100", "a", "b", "a"], "-100 is no class"),
        ([-1, None, -1, None], "no node has a label"),
        ([["a", "b"], ["a"], ["b"], ["a"]], r"row 0: label holds a list.*|line 1: label holds a list"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_labels_that_cannot_be_classes_are_refused(tmp_path: Path, suffix: str, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, suffix, labels)


def test_columns_of_parquet_of_any_type(tmp_path: Path) -> None:
    import pyarrow

    dates = [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)]
    for labels, names in (
        (pyarrow.array([decimal.Decimal("1.00"), decimal.Decimal("0.00")]), ("0", "1")),
        (pyarrow.array(["x", "y"]).dictionary_encode(), ("x", "y")),
        (pyarrow.array([1, 0], pyarrow.uint8()), ("0", "1")),
        (pyarrow.array(dates), ("2020-01-01", "2021-01-01")),
    ):
        assert read(tmp_path, ".parquet", labels).class_names == names
    with pytest.raises(ValueError, match=r"row 0: label holds a bytes"):
        read(tmp_path, ".parquet", pyarrow.array([b"x", b"y"]))


@pytest.mark.parametrize(
    ("ids", "ends"),
    [
        ([1, 2, 3], ["1", "2", "3"]),
        (["1", "2", "3"], [1, 2.0, 3]),
        ([1.0, 2.0, 12345678901234567.0], ["1", "2", "12345678901234568"]),
        (["first node", " second node ", "tab\tbed"], ["first node", "second node", "tab\tbed"]),
        ([0, -5, 10**15], ["0", "-5", "1000000000000000"]),
        (["007", "7", "é"], ["007", "7", "é"]),
    ],
)
def test_ids_are_the_same_as_numbers_and_as_text(tmp_path: Path, ids: list[Any], ends: list[Any]) -> None:
    nodes = dict(id=ids, text=["one word", "two word", "three word"], label=[0, 1, 0])
    edges = dict(source=[ends[0], ends[1]], target=[ends[1], ends[2]])
    graph = read_texts(write(tmp_path / "n.jsonl", nodes), write(tmp_path / "e.jsonl", edges), min_df=1)
    assert sorted(graph.edge_index.T.tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1]]


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "message"),
    [
        ("n", "id", 2, 1, "line 3: the node '1' is there twice, first as node number 1"),
        ("n", "id", 2, "1.0", "line 3: the node '1' is there twice"),
        ("n", "id", 2, None, "line 3: the node has no id"),
        ("n", "id", 2, NAN, "line 3: the node has no id"),
        ("n", "id", 2, [1], "line 3: id holds a list"),
        ("n", "id", 2, float("inf"), "line 3: id is inf"),
        ("n", "text", 2, None, "line 3: node '2' has no text"),
        ("n", "text", 2, NAN, "line 3: node '2' has no text"),
        ("n", "text", 2, ["a"], "line 3: text holds a list"),
        ("n", "label", 2, {"a": 1}, "line 3: label holds a dict"),
        ("n", "split", 2, "training", "line 3: split is 'train', 'val', 'test' or blank, not 'training'"),
        ("n", "train_mask", 0, True, "for a split of one's own write the column 'split' in place of 'train_mask'"),
        ("e", "source", 1, None, "line 2: the source of the edge is blank"),
        ("e", "target", 1, " ", "line 2: the target of the edge is blank"),
        ("e", "target", 1, 99, "line 2: the edge names node '99', which is not among the 6"),
        ("e", "target", 1, [3], "line 2: target holds a list"),
    ],
)
def test_values_that_cannot_be_are_refused_by_line(
    tmp_path: Path, table: str, column: str, row: int, value: Any, message: str
) -> None:
    tables: dict[str, dict[str, list[Any]]] = {
        "n": dict(id=[0, 1, 2, 3, 4, 5], text=[f"word w{k}" for k in range(6)], label=[0, 1] * 3),
        "e": dict(source=[0, 1, 2], target=[3, 4, 5]),
    }
    tables[table].setdefault(column, [""] * 6)[row] = value
    nodes, edges = (write(tmp_path / f"{name}.jsonl", columns) for name, columns in tables.items())
    with pytest.raises(ValueError, match=message):
        read_texts(nodes, edges, min_df=1)


def test_what_is_left_out_of_edges_is_said(tmp_path: Path) -> None:
    nodes = dict(id=[0, 1, 2], text=["a word", "b word", "c word"], label=[0, 1, 0])
    edges = dict(source=[0, 1, 1], target=[1, 1, 2], weight=[0.5, 1, 2])
    with pytest.warns(UserWarning, match="left out|nothing is read") as said:
        graph = read_texts(write(tmp_path / "n.csv", nodes), write(tmp_path / "e.csv", edges), min_df=1)
    told = sorted(str(each.message).partition(": ")[2] for each in said)
    assert told == [
        "1 edges join a node with itself and are left out",
        "of weight nothing is read, only source and target",
    ]
    assert graph.edge_index.shape[1] == 4


GOOD = "id,text,label\n" + "\n".join(f"{k},word w{k},{k % 2}" for k in range(4)) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "n.csv is empty; its first line names the columns"),
        (b"id,text,label\n", "n.csv has no rows"),
        (GOOD.partition("\n")[2].encode(), "the first line, which names the columns, has '0' twice"),
        (GOOD.partition("\n")[2][24:].encode(), r"line 2: there is no column 'id'; .*\(the first line of a CSV names"),
        (GOOD.replace(",", ";").encode(), "line 2: there is no column 'id'; .*id;text;label"),
        (GOOD.replace(",", "\t").encode(), "there is no column 'id'"),
        (GOOD.replace("label", "text").encode(), "the first line, which names the columns, has 'text' twice"),
        (GOOD.encode("utf-16"), "is no CSV in UTF-8: .*; save it as CSV in UTF-8"),
        (GOOD.replace("w1", "é").encode("latin-1"), "is no CSV in UTF-8"),
        (GOOD.replace("word w1", '"word').encode(), "is no CSV in UTF-8: unexpected end of data|values expected"),
    ],
)
def test_files_that_are_no_csv_are_refused_with_a_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "n.csv").write_bytes(content)
    edges = write(tmp_path / "e.csv", dict(source=[0], target=[1]))
    with pytest.raises(ValueError, match=message):
        read_texts(tmp_path / "n.csv", edges, min_df=1)


@pytest.mark.parametrize(
    "change", [str.encode, lambda text: text.encode("utf-8-sig"), lambda t: t.replace("\n", "\r\n").encode()]
)
def test_files_of_other_programs_are_read(tmp_path: Path, change: Any) -> None:
    (tmp_path / "n.CSV").write_bytes(change(GOOD))
    (tmp_path / "e.CSV").write_bytes(change("source,target\n0,1\n1,2\n"))
    graph = read_texts(tmp_path / "n.CSV", tmp_path / "e.CSV", min_df=1)
    assert (graph.y.tolist(), graph.edge_index.shape[1]) == ([0, 1, 0, 1], 4)


def test_a_parquet_that_is_cut_or_damaged_is_named(tmp_path: Path) -> None:
    own = dict(
        id=list(range(500)), text=[f"word number {k * 7919}" for k in range(500)], label=[k % 2 for k in range(500)]
    )
    nodes = write(tmp_path / "n.parquet", own)
    edges = write(tmp_path / "e.parquet", dict(source=[0], target=[1]))
    good = nodes.read_bytes()
    for bad in (good[:-20], good[: len(good) // 2], good[:4] + bytes(1500) + good[1504:]):
        nodes.write_bytes(bad)
        with pytest.raises(ValueError, match=r"n\.parquet is no Parquet, or it is damaged: "):
            read_texts(nodes, edges, min_df=1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_very_long_texts_are_read(tmp_path: Path, suffix: str) -> None:
    texts = ["short word", "long word " * 200_000, "another word"]
    nodes = write(tmp_path / f"n{suffix}", dict(id=[0, 1, 2], text=texts, label=[0, 1, 0]))
    edges = write(tmp_path / f"e{suffix}", dict(source=[0], target=[1]))
    assert read_texts(nodes, edges, min_df=1).texts == tuple(texts)


def test_half_surrogates_become_whole_characters(tmp_path: Path) -> None:
    nodes = tmp_path / "n.jsonl"
    lines = [
        r'{"id": 0, "text": "word \ud83d", "label": "a\ud83d"}',
        r'{"id": 1, "text": "word \ud83d\ude00", "label": "b"}',
    ]
    nodes.write_text("\n".join(lines))
    edges = write(tmp_path / "e.jsonl", dict(source=[0], target=[1]))
    with pytest.warns(UserWarning, match="1 texts hold half surrogates, which are read as U"):
        graph = read_texts(nodes, edges, min_df=1)
    assert graph.texts == ("word �", "word 😀")
    assert graph.class_names == ("a�", "b")
    for half in ("\ud83d", "x\ude00y", "\ude00\ud83d"):
        assert "�" in whole_characters(half)
        whole_characters(half).encode()
    assert whole_characters("\ud83d\ude00") == "😀"
    assert text_graph(["word \ud83d", "word"], [[0], [1]], [0, 1], min_df=1).texts is not None


def test_masks_and_names_of_the_split(tmp_path: Path) -> None:
    graph = read(tmp_path, ".csv", [0, 1, 0, 1, 0], split=["train", "valid", "val", "test", None])
    assert (graph.split.train.tolist(), graph.split.val.tolist(), graph.split.test.tolist()) == ([0], [1, 2], [3])
