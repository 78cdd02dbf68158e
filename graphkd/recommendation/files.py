"""Pairs of users and items from files, whatever else stands in them, and the data sets that have a name."""

from __future__ import annotations

import csv
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphkd.data.text_files import table_rows
from graphkd.recommendation.interactions import Held, Interactions, Rows, held
from graphkd.recommendation.split import LEAST, Parts, divided
from graphkd.recommendation.worlds import block_world
from kdlosses.options import check_known, nearest


def read_rows(path: str | Path, columns: Sequence[int] | Sequence[str] = (0, 1)) -> Rows:
    """Read the pairs of a file, as they stand there.

    Args:
        path: a file with a pair a line, parted by commas in a `.csv`, else by tabs; with names of columns also `.jsonl`
            or `.parquet`. Ids are kept as they are written: those of a text file are strings.
        columns: of the user and of the item: their numbers from 0 in a file without a head, or their names, which the
            first line of a `.csv` holds. Other columns are not read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line has no such column, the first line looks like a head, or the file is empty; says where.
    """
    path, names = Path(path), tuple(each for each in columns if isinstance(each, str))
    places = tuple(each for each in columns if isinstance(each, int))
    if len({*columns}) != 2 or len(columns) != 2 or 2 not in (len(names), len(places)) or min(places, default=0) < 0:
        raise ValueError(f"columns are two numbers or two names, of the user and of the item, got {columns!r}")
    found: list[tuple[str, list[Any]]]
    if names:
        found = [(where, [row[name] for name in names]) for where, row in table_rows(path, names)]
    else:
        found = list(_lines(path, places))
    if not found:
        raise ValueError(f"{path} has no pair of a user and an item")
    for place, what in enumerate(("user", "item")):
        first, *others = (str(pair[place]) for _, pair in found)
        if not names and not first.isdecimal() and others and all(map(str.isdecimal, others)):
            raise ValueError(
                f"{found[0][0]}: {first!r} is no number, as every other {what} is: where the first line names the "
                "columns, pass their names as columns"
            )
    return Rows([user for _, (user, _) in found], [item for _, (_, item) in found], lambda place: found[place][0])


def _lines(path: Path, columns: tuple[int, ...]) -> Iterator[tuple[str, list[str]]]:
    comma = path.suffix.lower() == ".csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="," if comma else "\t", strict=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if row and len(row) <= max(columns):
                    raise ValueError(
                        f"{where} has {len(row)} column{'s' * (len(row) > 1)}, and the pair is in columns "
                        f"{columns[0]} and {columns[1]}, parted by {'commas' if comma else 'tabs'}"
                    )
                if row:
                    yield where, [row[place] for place in columns]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table in UTF-8: {error}; save it as text in UTF-8") from error


def read_parts(
    train: str | Path,
    test: str | Path | None = None,
    *,
    columns: Sequence[int] | Sequence[str] = (0, 1),
    duplicates: str = "raise",
    unknown: str = "raise",
    val_share: float = 0.1,
    test_share: float | None = None,
    least: int = LEAST,
    seed: int = 0,
) -> Parts:
    """Read pairs to learn from and, from a file of their own or drawn from the first, pairs to be found.

    Args:
        train: see `read_rows`.
        test: likewise; if not given, pairs are drawn.
        columns: see `read_rows`.
        duplicates: see `Interactions.of`.
        unknown: see `held`; with `test` alone.
        val_share: see `divided`.
        test_share: likewise.
        least: likewise.
        seed: of what is drawn.
    """
    if test is None and unknown != "raise":
        raise ValueError(
            "unknown says what to do about ids of the file test, and there is none: leave it out, or give test"
        )
    known = Interactions.of(read_rows(train, columns), duplicates)
    tested: Held | None = None if test is None else held(read_rows(test, columns), known, unknown, duplicates)
    return divided(known, tested, seed, val_share, test_share, least)


def load_parts(spec: str | Mapping[str, Any], seed: int = 0, root: str | Path | None = None) -> Parts:
    """Load a data set by name and draw its validation part.

    Args:
        spec: `blocks`, see `block_world`, `lastfm`, or `file`, see `read_parts`; with options as `dict(type=name,
            **options)`.
        seed: of what is drawn.
        root: folder with `LastFM/raw`; `KD_DATA_ROOT` if not given.

    Raises:
        KeyError: no such name.
        TypeError: no such option.
        FileNotFoundError: no such file or folder.
    """
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = options.pop("type", None)
    readers: dict[Any, Callable[..., Parts]] = {"blocks": _blocks, "file": read_parts, "lastfm": _lastfm}
    if kind not in readers:
        raise KeyError(f"no data set of users and items is called {kind!r}; {nearest(str(kind), readers)}")
    read = readers[kind]
    known = {*inspect.signature(read).parameters} | (
        {*inspect.signature(block_world).parameters} if kind == "blocks" else set()
    )
    check_known(f"data {kind!r}", options, known - {"seed", "root", "options"})
    if kind == "file" and "train" not in options:
        raise TypeError("data 'file' needs the option train, a file of pairs")
    return read(**options, seed=seed, **(dict(root=root) if kind == "lastfm" else {}))


def _blocks(*, seed: int, val_share: float = 0.1, least: int = LEAST, **options: Any) -> Parts:
    world = block_world(**options, seed=seed)
    return divided(world.known, world.test, seed, val_share, least=least)


def _lastfm(root: str | Path | None, *, seed: int, val_share: float = 0.1, least: int = LEAST) -> Parts:
    """Artists that users of LastFM listened to; counts are not read."""
    root = root or os.environ.get("KD_DATA_ROOT")
    if not root:
        raise FileNotFoundError("'lastfm' is read from a data folder: set KD_DATA_ROOT, or pass root")
    train, test = (Path(root) / "LastFM" / "raw" / f"{name}1.txt" for name in ("data", "test"))
    return read_parts(train, test, unknown="miss", val_share=val_share, least=least, seed=seed)
