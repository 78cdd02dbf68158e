"""What a teacher leaves for its students: written once, read from disk by whoever trains."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Cache:
    """A teacher's output on one graph, in node order; unobserved rows are NaN, so that a leak fails loudly.

    On disk it is a folder of plain `.npy` files, read memory-mapped and without pickle, beside a `meta.json`, which any
    engine can write.

    Attributes:
        logits: `(N, C)`; logits, not log-probabilities, so that a student may choose its temperature.
        node_id: `(N,)`, see `Graph.node_id`.
        observed: `(N,)` bool, the nodes that the teacher saw.
        fingerprint: of the graph, see `Graph.fingerprint`.
        hidden: hidden layers `(N, d)`, first to last.
        settings: what the teacher is and how it was trained: JSON values.

    Raises:
        ValueError: sizes differ, or an observed row is not finite.
    """

    logits: np.ndarray
    node_id: np.ndarray
    observed: np.ndarray
    fingerprint: str
    hidden: tuple[np.ndarray, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise ValueError(f"teacher logits must be (N, C), got {self.logits.shape}")
        if self.observed.dtype != np.bool_:
            raise ValueError(f"the observed mask must be bool, got {self.observed.dtype}")
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
        path = Path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            draft = Path(scratch) / "new"
            draft.mkdir()
            for name, array in self._arrays().items():
                np.save(draft / f"{name}.npy", array, allow_pickle=False)
            meta = {
                "format": _FORMAT,
                "fingerprint": self.fingerprint,
                "hidden": len(self.hidden),
                "settings": self.settings,
            }
            (draft / "meta.json").write_text(json.dumps(meta, indent=1))
            if path.exists():
                os.replace(path, Path(scratch) / "old")
            os.replace(draft, path)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> Cache:
        """Open a cache, memory-mapped.

        Args:
            path: the folder.
            fingerprint: of the graph it is meant for; checked if given.

        Raises:
            FileNotFoundError: no cache there.
            ValueError: it belongs to another graph, is of an unknown format, or a file in it is no plain array.
        """
        path = Path(path)
        if not (path / "meta.json").is_file():
            raise FileNotFoundError(f"{path} is no teacher cache: it has no meta.json")
        meta = json.loads((path / "meta.json").read_text())
        if meta.get("format") != _FORMAT:
            raise ValueError(f"{path} has cache format {meta.get('format')!r}; this version reads {_FORMAT}")

        def array(name: str) -> np.ndarray:
            try:
                return np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise ValueError(f"{path / name}.npy is no plain array and was not opened: {error}") from error

        cache = cls(
            array("logits"),
            array("node_id"),
            array("observed"),
            meta["fingerprint"],
            tuple(array(f"hidden{i}") for i in range(meta["hidden"])),
            meta["settings"],
        )
        if fingerprint is not None:
            cache.check(fingerprint)
        return cache

    def take(self, nodes: np.ndarray) -> Cache:
        """The rows of some nodes, in memory."""
        taken = {name: array[nodes] for name, array in self._arrays().items()}
        logits, node_id, observed, *hidden = taken.values()
        return Cache(logits, node_id, observed, self.fingerprint, tuple(hidden), self.settings)

    def check(self, fingerprint: str) -> None:
        """Raise ValueError unless the cache was written for the graph with this fingerprint."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"the cache belongs to another graph: its fingerprint is {self.fingerprint}, the graph's {fingerprint}"
            )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"logits": self.logits, "node_id": self.node_id, "observed": self.observed}
        return arrays | {f"hidden{i}": layer for i, layer in enumerate(self.hidden)}


def check_finite(values: np.ndarray, observed: np.ndarray, what: str) -> None:
    """Raise ValueError if an observed row has a NaN or an infinity; reads in blocks, so that a map stays on disk."""
    step = max(1, (1 << 22) // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        bad = ~np.isfinite(values[start : start + step]).all(1) & observed[start : start + step]
        if bad.any():
            raise ValueError(f"{what} are NaN or infinite at node {start + int(bad.argmax())}")
