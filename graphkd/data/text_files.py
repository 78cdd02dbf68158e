"""Read a text graph from two tables, nodes and edges, in CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import math
import numbers
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.graph import Graph
from graphkd.data.split import Split
from graphkd.data.texts import text_graph, whole_characters
from graphkd.extras import needs_extra
from kdlosses import nearest

Row = tuple[str, dict[str, Any]]
"""Where a row stands, and its values by column."""

_PARTS = ("train", "val", "test")
_MASKS = ("train_mask", "val_mask", "valid_mask", "test_mask")
_NO_LABEL = ("", "-1", "nan", "none", "null", "<na>")  # in lower case
_LONGEST = 2**31 - 1  # characters in a field of a CSV


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
    numbers, sorted; a node whose label is blank, -1 or NaN is kept without one. Where the table of nodes has the column
    `split`, its values are `train`, `val` (or `valid`), `test` or blank, and it is the graph's split. Edges are read in
    both directions and without self-loops. Half surrogates in a text become U+FFFD.

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
        ValueError: a column is missing, an id stands twice or is unknown, a text is missing, or a value is of a kind
            that it cannot be; names file and line.

    Warns:
        UserWarning: something was read that may be meant otherwise: 'none' as no label, numbers among names as labels,
            self-loops, further columns of edges, half surrogates.
    """
    if empty not in ("raise", "keep"):
        raise ValueError(f"empty is 'raise' or 'keep', not {empty!r}")
    place: dict[str, int] = {}
    texts: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for where, row in table_rows(Path(nodes), (id, text, label)):
        key = _name(row[id], f"{where}: {id}")
        if not key:
            raise ValueError(f"{where}: the node has no {id}")
        if key in place:
            raise ValueError(f"{where}: the node {key!r} is there twice, first as node number {place[key]}")
        place[key] = len(texts)
        if part not in row and (masks := [name for name in _MASKS if name in row]):
            raise ValueError(f"{where}: for a split of one's own write the column {part!r} in place of {masks[0]!r}")
        texts.append("" if _missing(row[text]) else str(_plain(row[text], f"{where}: {text}")))
        if not texts[-1].strip() and empty == "raise":
            raise ValueError(f"{where}: node {key!r} has no text; fill it in, or pass empty='keep'")
        labels.append(whole_characters(_name(row[label], f"{where}: {label}")))
        found = _name(row.get(part), f"{where}: {part}")
        parts.append("val" if found == "valid" else found)
        if parts[-1] not in ("", *_PARTS):
            raise ValueError(f"{where}: {part} is 'train', 'val', 'test' or blank, not {row[part]!r}")
    if not texts:
        raise ValueError(f"{nodes} has no rows")
    names = _classes(labels, nodes)
    number = {name: count for count, name in enumerate(names)}
    given = [torch.tensor([k for k, found in enumerate(parts) if found == wanted]) for wanted in _PARTS]
    whole = [whole_characters(each) for each in texts]
    if broken := sum(a != b for a, b in zip(whole, texts)):
        _say(f"{nodes}: {broken} texts hold half surrogates, which are read as U+FFFD")
    return text_graph(
        whole,
        _edges(edges, place, source, target, nodes),
        torch.tensor([number.get(name, -1) for name in labels]),
        class_names=names,
        min_df=min_df,
        split=Split(*given) if any(parts) else None,
    )


def _classes(labels: Sequence[str], nodes: str | Path) -> list[str]:
    """The names of the classes, sorted: numbers by their size before names."""
    found = {name for name in labels if name.lower() not in _NO_LABEL}
    if not found:
        raise ValueError(f"{nodes}: no node has a label")
    numeric = {name for name in found if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", name, re.IGNORECASE)}
    if below := sorted(name for name in numeric if name.startswith("-")):
        raise ValueError(
            f"{nodes}: {below[0]} is no class: -1 stands for no label, and classes that are numbers count from 0; give "
            "classes below 0 names"
        )
    if fractions := sorted(name for name in numeric if not name.isdecimal()):
        raise ValueError(f"{nodes}: the label {fractions[0]} is no whole number; give classes whole numbers or names")
    silent = sorted({name for name in labels if name.lower() in _NO_LABEL} - {"", "-1"})
    if silent and numeric != found:  # in a column of numbers NaN has no other meaning
        count = sum(name in silent for name in labels)
        named = " and ".join(map(repr, silent))
        _say(f"{nodes}: {count} labels {named} are read as no label; rename a class of that name")
    if numeric and numeric != found:
        a, b = min(numeric), min(found - numeric)
        _say(f"{nodes}: the labels are numbers and names, {a!r} and {b!r} among them; each is a class of its own")
    return sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else name))


def _edges(edges: str | Path, place: dict[str, int], source: str, target: str, nodes: str | Path) -> np.ndarray:
    """The ends of all edges, `(2, E)`."""
    ends = []
    more: list[str] = []
    for where, row in table_rows(Path(edges), (source, target)):
        more = more or [name for name in row if name not in (source, target)]
        ends.append([_end(row[column], column, place, where, nodes) for column in (source, target)])
    found = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    if loops := int((found[0] == found[1]).sum()):
        _say(f"{edges}: {loops} edges join a node with itself and are left out")
    if more:
        _say(f"{edges}: of {', '.join(more)} nothing is read, only {source} and {target}")
    return found


def _say(what: str) -> None:
    warnings.warn(what, stacklevel=4)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Number) and bool(value != value))


def _plain(value: Any, where: str) -> Any:
    """A value, if it is one: text, a number or a date, no list and no bytes."""
    if isinstance(value, (list, tuple, dict, set, bytes)):
        raise ValueError(f"{where} holds a {type(value).__name__}, {str(value)[:40]!r}; expected one name or number")
    return value


def _name(value: Any, where: str) -> str:
    """An id or a label as a string; whole numbers by their digits, whether a table holds 7, 7.0 or '7.0'."""
    if _missing(value):
        return ""
    value = _plain(value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; expected a name or a number")
    if isinstance(value, numbers.Number) and not isinstance(value, (bool, complex)) and value == int(value):  # type: ignore[call-overload]
        return str(int(value))  # type: ignore[call-overload]
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(value).strip())


def _end(value: Any, column: str, place: dict[str, int], where: str, nodes: str | Path) -> int:
    key = _name(value, f"{where}: {column}")
    if not key:
        raise ValueError(f"{where}: the {column} of the edge is blank; an edge names two nodes")
    if key not in place:
        raise ValueError(
            f"{where}: the edge names node {key!r}, which is not among the {len(place)} of {nodes} "
            f"(the first of them is {next(iter(place), None)!r})"
        )
    return place[key]


def table_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of a `.csv`, `.jsonl` or `.parquet` with these columns among others, and where each stands."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path}: a table is one of {', '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    for where, row in read(path):
        for column in columns:
            if column not in row:
                hint = " (the first line of a CSV names its columns)" if read is _csv else ""
                raise ValueError(f"{where}: there is no column {column!r}; {nearest(column, row)}{hint}")
        yield where, row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))  # 131,072 characters if not set: less than a long text
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            head = list(reader.fieldnames or ())
            if not head:
                raise ValueError(f"{path} is empty; its first line names the columns")
            if twice := sorted({name for name in head if head.count(name) > 1}):
                raise ValueError(f"{path}: the first line, which names the columns, has {twice[0]!r} twice")
            hint = "; the first line names the columns, with commas between them"
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{where}: {len(head)} values expected, as in the first line{hint}")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV in UTF-8: {error}; save it as CSV in UTF-8") from error


def _json_lines(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"{path}, line {number} is no object but {line.strip()[:40]!r}")
                yield f"{path}, line {number}", row
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON lines in UTF-8: {error}; write an object a line, in UTF-8") from error


def _parquet(path: Path) -> Iterator[Row]:
    with needs_extra(f"reading {path.name}"):
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    number = 0
    try:
        for batch in ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} is no Parquet, or it is damaged: {error}; write it again") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
