"""The benchmark graphs by name, read with PyG's own readers and prepared by the CPF rule."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.cpf import prepare
from graphkd.data.digits import digits
from graphkd.data.graph import Graph
from graphkd.extras import needs_extra
from graphkd.features import csr
from kdlosses import nearest

# name: the reader in torch_geometric.datasets, and the folder of the raw files under the data root
_READERS = {
    "cora": ("Planetoid", "Planetoid/Cora"),
    "citeseer": ("Planetoid", "Planetoid/CiteSeer"),
    "computers": ("Amazon", "Amazon/Computers"),
    "photo": ("Amazon", "Amazon/Photo"),
    "physics": ("Coauthor", "Coauthor/Physics"),
}
NAMES = ("digits", *_READERS)


def load(name: str, root: str | Path | None = None) -> Graph:
    """Load a benchmark graph, prepared by the CPF rule.

    Args:
        name: `digits` (embedded), `cora`, `citeseer`, `computers`, `photo` or `physics`.
        root: folder with `Planetoid/`, `Amazon/` and `Coauthor/` as PyG lays them out; `KD_DATA_ROOT` if not given.
            Nothing is written there: PyG's readers work on a copy, and what they read is kept in the user's cache
            folder.

    Raises:
        KeyError: no such name.
        FileNotFoundError: no such folder.
    """
    if name == "digits":
        return digits()
    if name not in _READERS:
        raise KeyError(f"no graph is called {name!r}; {nearest(name, NAMES)}")
    root = root or os.environ.get("KD_DATA_ROOT")
    if not root:
        raise FileNotFoundError(f"{name!r} is read from a data folder: set KD_DATA_ROOT, or pass root")
    raw = Path(root) / _READERS[name][1] / "raw"
    if not raw.is_dir():
        raise FileNotFoundError(f"{name!r} should lie in {raw}, which does not exist")
    kept = _cache_folder() / f"{name}-{_state_of(raw)}.npz"
    if not kept.exists():
        _keep(_read(name, raw), kept)
    with np.load(kept, allow_pickle=False) as arrays:
        part = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    x = part["x"] if "x" in part else csr(part["crow"], part["column"], part["value"], int(part["width"]))
    return Graph(x, part["edge_index"], part["y"], int(part["y"].max()) + 1, part["node_id"])


def _read(name: str, raw: Path) -> Graph:
    with needs_extra(f"reading {name!r}"):
        from torch_geometric import datasets
    reader, folder = _READERS[name]
    with tempfile.TemporaryDirectory() as scratch:  # the readers write processed/ beside raw/
        copy = Path(scratch) / Path(folder).name
        shutil.copytree(raw, copy / "raw")
        return prepare(getattr(datasets, reader)(scratch, copy.name)[0])


def _keep(graph: Graph, path: Path) -> None:
    x = graph.x
    sparse = x.layout is torch.sparse_csr
    features = (
        {"crow": x.crow_indices(), "column": x.col_indices(), "value": x.values(), "width": torch.tensor(x.shape[1])}
        if sparse
        else {"x": x}
    )
    tensors = {"edge_index": graph.edge_index, "y": graph.y, "node_id": graph.node_id, **features}
    arrays: dict[str, Any] = {key: value.numpy() for key, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, **arrays)
    os.replace(file.name, path)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphkd"


def _state_of(folder: Path) -> str:
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
    return hashlib.blake2b(repr((str(folder.resolve()), files)).encode(), digest_size=8).hexdigest()
