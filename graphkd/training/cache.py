"""On-disk cache of a teacher's outputs (memory-mapped .npy files)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.sparse.shards import Shards
from kdlosses.arrays import open_array, write_array
from kdlosses.whole import whole

_LOOKED_AT = 1000
_FORMATS = (1, 2, 3, 4)  # one teacher, several, one with extras, a shard


@dataclass(frozen=True, eq=False)
class Cache:
    """A teacher's output on one graph, in node order; unobserved rows are NaN, so that a leak fails loudly.

    On disk it is a folder of plain `.npy` files, read memory-mapped and without pickle, beside a `meta.json`, which any
    engine can write; or a folder of such folders, see `save_shard`: read from there, `logits`, `hidden` and
    `more` are `Shards`, which are indexed like arrays.

    Attributes:
        logits: `(N, C)`; logits, not log-probabilities, so that a student may choose its temperature. Of several
            teachers one after the other along axis 1.
        node_id: `(N,)`, see `Graph.node_id`.
        observed: `(N,)` bool, the nodes that the teacher saw.
        fingerprint: of the graph, see `Graph.fingerprint`.
        hidden: hidden layers `(N, d)`, first to last, teacher by teacher.
        settings: what the teacher is and how it was trained: JSON values.
        parts: of several teachers, how many columns of `logits` and how many hidden layers are those of each, in order;
            empty for one.
        more: by name, extra outputs of a teacher for each node, `(N, ...)`: its logits under noise, a position, a code.
            Not of several teachers.
        params: by name, extra outputs about the teacher itself: its weights, a codebook. Not of several teachers.
        own_tasks: whether their classes are not those of the student, but of tasks of their own.

    Raises:
        ValueError: sizes differ, or an observed row is not finite.

    >>> one = Cache(np.zeros((2, 3)), np.arange(2), np.ones(2, dtype=bool), "f00d")
    >>> both = Cache.join([one, one])
    >>> both.logits.shape, both.parts, [each.logits.shape for each in both.split()]
    ((2, 6), ((3, 0), (3, 0)), [(2, 3), (2, 3)])
    """

    logits: np.ndarray
    node_id: np.ndarray
    observed: np.ndarray
    fingerprint: str
    hidden: tuple[np.ndarray, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[tuple[int, int], ...] = ()
    own_tasks: bool = False
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    params: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise ValueError(f"teacher logits must be (N, C), got {self.logits.shape}")
        if self.observed.dtype != np.bool_:
            raise ValueError(f"the observed mask must be bool, got {self.observed.dtype}")
        told = (self.logits.shape[1], len(self.hidden))
        if self.parts and tuple(map(sum, zip(*self.parts))) != told:
            raise ValueError(f"parts are (columns, hidden layers) of each teacher, in all {told}, got {self.parts}")
        for name, array in self._arrays().items():
            if len(array) != len(self.logits):
                raise ValueError(f"the cache has {len(self.logits)} rows of logits but {len(array)} of {name}")
        for name, array in [("logits", self.logits), *((f"hidden layer {i}", h) for i, h in enumerate(self.hidden))]:
            check_finite(array, self.observed, f"the teacher's {name}")

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the cache to the folder `path`, whole or not at all.

        Raises:
            FileExistsError: something is there, and `overwrite` is not set.
        """
        several, tells = bool(self.parts) or self.own_tasks, bool(self.more or self.params)
        self._write(Path(path), overwrite, {"format": 3 if tells else 2 if several else 1})  # for older readers

    def save_shard(self, path: str | Path, start: int, nodes: int, overwrite: bool = False) -> None:
        """Write this cache of a range of nodes as one shard of the whole graph's cache in the folder `path`.

        Shards may be written in any order and by several processes that do not know of each other: `load` of the folder
        `path` finds out whether every node has been written once.

        Args:
            path: the folder that is to hold all shards.
            start: number of the first node in here.
            nodes: number of nodes of the graph, in all shards.
            overwrite: replace a shard that begins with the same node.

        Raises:
            FileExistsError: there is one, and `overwrite` is not set.
            ValueError: the range is not inside of the graph.
        """
        if not 0 <= start <= start + len(self.logits) <= nodes:
            raise ValueError(f"a shard of the nodes {start} to {start + len(self.logits) - 1}, but there are {nodes}")
        self._write(Path(path) / f"shard-{start:012d}", overwrite, {"format": 4, "start": start, "nodes": nodes})

    def _write(self, path: Path, overwrite: bool, head: dict[str, Any]) -> None:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        for name in (*self.more, *self.params):
            _check_name(name)
        with whole(path, folder=True) as draft:
            for name, array in {**self._arrays(), **_named("param", self.params)}.items():
                write_array(draft / f"{name}.npy", array)
            meta: dict[str, Any] = {
                **head,
                "fingerprint": self.fingerprint,
                "hidden": len(self.hidden),
                "settings": self.settings,
            }
            if self.more or self.params:
                meta |= {"more": list(self.more), "params": list(self.params)}
            if self.parts or self.own_tasks:
                meta["teachers"] = [{"columns": columns, "hidden": hidden} for columns, hidden in self.parts]
                meta["own_tasks"] = self.own_tasks
            (draft / "meta.json").write_text(json.dumps(meta, indent=1))

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> Cache:
        """Open a cache, memory-mapped.

        Args:
            path: the folder.
            fingerprint: of the graph it is meant for; checked if given.

        Raises:
            FileNotFoundError: no cache there.
            ValueError: it belongs to another graph, is of an unknown format or damaged, a file in it is no plain array
                or lies elsewhere, or a shard is missing, doubled or of another cache.
        """
        path = Path(path)
        found = sorted(path.glob("shard-*/meta.json"))
        if (path / "meta.json").is_file() or not found:
            meta, arrays = _read(path)
        else:
            for file in found:
                if not file.resolve().is_relative_to(path.resolve()):
                    raise ValueError(f"{file.parent} leads out of {path} and was not opened: copy the shard there")
            meta, arrays = _joined(path, [_read(file.parent) for file in found])
        try:
            cache = cls(
                arrays["logits"],
                arrays["node_id"],
                arrays["observed"],
                meta["fingerprint"],
                tuple(arrays[f"hidden{i}"] for i in range(meta["hidden"])),
                meta["settings"],
                tuple((each["columns"], each["hidden"]) for each in meta.get("teachers", ())),
                meta.get("own_tasks", False),
                {name: arrays[f"more-{name}"] for name in meta.get("more", ())},
                {name: arrays[f"param-{name}"] for name in meta.get("params", ())},
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if fingerprint is not None:
            cache.check(fingerprint)
        return cache

    def take(self, nodes: np.ndarray) -> Cache:
        """Return the rows of some nodes, in memory."""
        taken = {name: array[nodes] for name, array in self._arrays().items()}
        return replace(
            self,
            **{name: taken[name] for name in ("logits", "node_id", "observed")},
            hidden=tuple(taken[f"hidden{place}"] for place in range(len(self.hidden))),
            more={name: taken[f"more-{name}"] for name in self.more},
        )

    @classmethod
    def join(cls, caches: Sequence[Cache]) -> Cache:
        """Join the caches of several teachers of one graph into one, in memory.

        Raises:
            ValueError: there are none, or they saw different graphs or nodes.
        """
        if not caches:
            raise ValueError("there is no cache to join; pass at least one")
        first = caches[0]
        if len(caches) == 1:
            return first
        for place, cache in enumerate(caches):
            cache.check(first.fingerprint)
            if not np.array_equal(cache.observed, first.observed):
                raise ValueError(f"teacher {place} observed other nodes than teacher 0")
        return cls(
            np.concatenate([cache.logits for cache in caches], axis=1),
            first.node_id,
            first.observed,
            first.fingerprint,
            tuple(layer for cache in caches for layer in cache.hidden),
            {**first.settings, "teacher": [told for cache in caches for told in cache._teachers()]},
            tuple(part for cache in caches for part in cache._parts()),
            any(cache.own_tasks for cache in caches),
        )

    def split(self) -> list[Cache]:
        """Split into the cache of each teacher: views, nothing is copied."""
        found, column, layer = [], 0, 0
        for (columns, hidden), told in zip(self._parts(), self._teachers()):
            logits, layers = self.logits[:, column : column + columns], self.hidden[layer : layer + hidden]
            settings = {**self.settings, "teacher": told}
            found.append(replace(self, logits=logits, hidden=layers, settings=settings, parts=()))
            column, layer = column + columns, layer + hidden
        return found

    def _parts(self) -> tuple[tuple[int, int], ...]:
        return self.parts or ((self.logits.shape[1], len(self.hidden)),)

    def _teachers(self) -> list[Any]:
        told = self.settings.get("teacher")
        return list(told) if self.parts and isinstance(told, list) else [told] * len(self._parts())

    def check(self, fingerprint: str) -> None:
        """Raise ValueError unless the cache was written for the graph with this fingerprint."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"the cache belongs to another graph: its fingerprint is {self.fingerprint}, the graph's {fingerprint}"
            )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"logits": self.logits, "node_id": self.node_id, "observed": self.observed}
        return arrays | {f"hidden{i}": layer for i, layer in enumerate(self.hidden)} | _named("more", self.more)


def shards_in(path: str | Path) -> list[dict[str, Any]]:
    """The `meta.json` of each shard in a folder, with its number of nodes as `rows`.

    Raises:
        ValueError: one is damaged.
    """
    shards = [file.parent for file in sorted(Path(path).glob("shard-*/meta.json"))]
    return [{**_meta(shard), "rows": len(open_array(shard / "node_id.npy"))} for shard in shards]


def _named(kind: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{kind}-{name}": array for name, array in arrays.items()}


def _meta(path: Path) -> dict[str, Any]:
    """Read and check `meta.json`."""
    file = path / "meta.json"
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no teacher cache: it has no meta.json")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"no JSON, {error}") from error
    if not isinstance(meta, dict):
        raise _damaged(file, f"a {type(meta).__name__} in place of an object")
    if type(meta.get("format")) is not int or meta["format"] not in _FORMATS:
        known = " and ".join(map(str, _FORMATS))
        raise ValueError(f"{path} has cache format {meta.get('format')!r}; this version reads {known}")
    kinds: dict[str, type] = {"fingerprint": str, "hidden": int, "settings": dict}
    kinds |= {"start": int, "nodes": int} if meta["format"] == 4 else {}
    kinds |= {"more": list, "params": list} if meta["format"] == 3 else {}
    optional: dict[str, type] = {"more": list, "params": list, "teachers": list, "own_tasks": bool}
    kinds |= {key: kind for key, kind in optional.items() if key in meta}
    for key, kind in kinds.items():
        if type(meta.get(key)) is not kind:
            raise _damaged(file, f"{key!r} is {meta.get(key, 'missing')!r}, not of type {kind.__name__}"[:300])
    for key in kinds.keys() & {"hidden", "start", "nodes"}:
        if meta[key] < 0:
            raise _damaged(file, f"{key!r} is {meta[key]}")
    for name in (*meta.get("more", ()), *meta.get("params", ())):
        _check_name(name, f"{file}: ")
    for each in meta.get("teachers", ()):
        if not isinstance(each, dict) or [type(each.get(key)) for key in ("columns", "hidden")] != [int, int]:
            raise _damaged(file, f"a teacher is {each!r}"[:300])
    return meta


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(f"{file} is damaged ({why}): write the cache again")


def _check_name(name: Any, where: str = "") -> None:
    """Names of arrays become names of files in the folder."""
    if not isinstance(name, str) or not name or set(name) & set("/\\\0"):
        raise ValueError(f"{where}an array of a cache is called {name!r}; it must be the name of a file, with no slash")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `meta.json` says, and the arrays that it names, memory-mapped."""
    meta = _meta(path)
    arrays = {name: open_array(path / f"{name}.npy") for name in ("logits", "node_id", "observed")}
    for i in range(meta["hidden"]):  # as many as it claims, or as are there
        arrays[f"hidden{i}"] = open_array(path / f"hidden{i}.npy")
    for kind, key in (("more", "more"), ("param", "params")):
        arrays |= {f"{kind}-{name}": open_array(path / f"{kind}-{name}.npy") for name in meta.get(key, ())}
    for name, array in arrays.items():
        kinds = "f" if name.startswith(("logits", "hidden")) else "iu" if name == "node_id" else "fiubSU"
        if array.dtype.kind not in kinds or not (array.ndim or name.startswith("param-")):
            raise _damaged(path / f"{name}.npy", f"{array.dtype} of shape {array.shape}")
    return meta, arrays


def _joined(path: Path, shards: list[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shards, in the order of their nodes, as one cache; rows stay on disk, what each node is named by does not."""
    (first, own), *_ = shards
    reached = 0
    for meta, arrays in shards:
        for key in first.keys() - {"start"}:
            if meta.get(key) != first[key]:
                raise ValueError(
                    f"{path}: the shard at node {meta['start']} is of another cache than that at node "
                    f"{first['start']}: {key} is {meta.get(key)!r}, not {first[key]!r}"
                )
        if meta["start"] != reached:
            what = "are missing: write their shard" if meta["start"] > reached else "are there twice: delete a shard"
            a, b = sorted((meta["start"], reached))
            raise ValueError(f"{path}: the nodes {a} to {b - 1} {what}")
        reached += len(arrays["logits"])
    if reached != first["nodes"]:
        raise ValueError(f"{path}: the nodes {reached} to {first['nodes'] - 1} are missing: write their shard")
    whole: dict[str, Any] = {}
    for name, array in own.items():
        parts = [arrays[name] for _, arrays in shards]
        small = name in ("node_id", "observed")
        whole[name] = array if name.startswith("param-") else np.concatenate(parts) if small else Shards(parts)
    return first, whole


def warn_of_probabilities(logits: Any, observed: np.ndarray | None = None, stacklevel: int = 3) -> None:
    """Warn where a teacher's output looks like probabilities: the first rows sum to 1, and none is negative."""
    rows = np.asarray(logits[:_LOOKED_AT])
    rows = rows if observed is None else rows[observed[:_LOOKED_AT]]
    if len(rows) and rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-2):
        warnings.warn("the teacher's rows sum to 1: of probabilities pass the logarithm", stacklevel=stacklevel)


def check_finite(values: np.ndarray | Shards, observed: np.ndarray, what: str) -> None:
    """Raise ValueError if an observed row has a NaN or an infinity; reads in blocks, so that a map stays on disk."""
    step = max(1, (1 << 22) // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        bad = ~np.isfinite(values[start : start + step]).all(1) & observed[start : start + step]
        if bad.any():
            raise ValueError(f"{what} are NaN or infinite at node {start + int(bad.argmax())}")
