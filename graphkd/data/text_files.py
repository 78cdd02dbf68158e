"""A user's own texts, edges and labels: two tables, in CSV, JSON lines or Parquet, as one graph."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.graph import Graph
from graphkd.data.split import Split
from graphkd.data.texts import text_graph
from graphkd.extras import needs_extra
from kdlosses import nearest

Row = tuple[str, dict[str, Any]]
"""Where a row stands, and its values by column."""

_PARTS = ("train", "val", "test")


def read_texts(
    nodes: str | Path,
    edges: str | Path,
    *,
    id: str = "id",
    text: str = "text",
    label: str = "label",
    part: str = "split",
    source: str = "source",
    target: str = "target",
    empty: str = "raise",
    min_df: int = 3,
) -> Graph:
    """Read a text graph from a table of nodes and a table of edges, `.csv`, `.jsonl` or `.parquet`.

    Ids may be any names or numbers, in any order; nodes keep the order of their table. Labels are class names or
    numbers, sorted; a node without one is kept without one. Where the table of nodes has the column `split`, its values
    are `train`, `val`, `test` or blank, and it is the graph's split.

    Args:
        nodes: table with the columns `id`, `text` and `label`, and maybe `split`.
        edges: table with the columns `source` and `target`, which hold ids of nodes.
        id: name of the column.
        text: likewise.
        label: likewise.
        part: likewise, of the split; need not be there.
        source: likewise.
        target: likewise.
        empty: what to do about a node without a text, `raise` or `keep`.
        min_df: see `text_graph`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, an id stands twice or is unknown, a text is missing; names file and line.
    """
    if empty not in ("raise", "keep"):
        raise ValueError(f"empty is 'raise' or 'keep', not {empty!r}")
    place: dict[str, int] = {}
    texts: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for where, row in _rows(Path(nodes), (id, text, label)):
        key = _name(row[id])
        if not key:
            raise ValueError(f"{where}: the node has no {id}")
        if key in place:
            raise ValueError(f"{where}: the node {key!r} is there twice, first as node number {place[key]}")
        place[key] = len(texts)
        texts.append("" if row[text] is None else str(row[text]))
        if not texts[-1].strip() and empty == "raise":
            raise ValueError(f"{where}: node {key!r} has no text; fill it in, or pass empty='keep'")
        labels.append(_name(row[label]))
        parts.append(_name(row.get(part)))
        if parts[-1] not in ("", *_PARTS):
            raise ValueError(f"{where}: {part} is 'train', 'val', 'test' or blank, not {parts[-1]!r}")
    ends = [
        [_end(row[column], place, where, nodes) for column in (source, target)]
        for where, row in _rows(Path(edges), (source, target))
    ]
    names = sorted(set(labels) - {""}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else name))
    number = {name: count for count, name in enumerate(names)} | {"": -1}
    given = [torch.tensor([k for k, found in enumerate(parts) if found == wanted]) for wanted in _PARTS]
    return text_graph(
        texts,
        np.array(ends, dtype=np.int64).reshape(-1, 2).T,
        torch.tensor([number[name] for name in labels]),
        class_names=names,
        min_df=min_df,
        split=Split(*given) if any(parts) else None,
    )


def _name(value: Any) -> str:
    """An id or a label as a string; whole numbers by their digits, whether a table holds 7, 7.0 or '7.0'."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return re.sub(r"^(-?\d+)\.0$", r"\1", str(value).strip())


def _end(value: Any, place: dict[str, int], where: str, nodes: str | Path) -> int:
    key = _name(value)
    if key not in place:
        raise ValueError(
            f"{where}: the edge names node {key!r}, which is not among the {len(place)} of {nodes} "
            f"(the first of them is {next(iter(place), None)!r})"
        )
    return place[key]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: a table is one of {', '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    for where, row in _READERS[path.suffix](path):
        for column in columns:
            if column not in row:
                raise ValueError(f"{where}: there is no column {column!r}; {nearest(column, row)}")
        yield where, row


def _csv(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{where}: {len(reader.fieldnames or ())} values expected, as in the first line")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV in UTF-8: {error}") from error


def _json_lines(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object but {line.strip()[:40]!r}")
                yield f"{path}, line {number}", row
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON lines in UTF-8: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    with needs_extra(f"reading {path.name}"):
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    try:
        file = ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet: {error}") from error
    number = 0
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            yield f"{path}, row {number}", row
            number += 1


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
