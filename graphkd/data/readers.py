"""The benchmark graphs by name: those of PyG, prepared by the CPF rule, and those of OGB, with their own split."""

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
from graphkd.data.ogb import read_ogb
from graphkd.data.split import Split
from graphkd.extras import needs_extra
from graphkd.features import csr
from kdlosses import nearest

# name: the reader in torch_geometric.datasets, and the folder of the raw files under the data root
_READERS = {
    "cora": ("Planetoid", "Planetoid/Cora"),
    "citeseer": ("Planetoid", "Planetoid/CiteSeer"),
    "pubmed": ("Planetoid", "Planetoid/PubMed"),
    "computers": ("Amazon", "Amazon/Computers"),
    "photo": ("Amazon", "Amazon/Photo"),
    "cs": ("Coauthor", "Coauthor/CS"),
    "physics": ("Coauthor", "Coauthor/Physics"),
}
# name: the folder under the data root, and the split
_OGB = {"arxiv": ("OGB/ogbn_arxiv", "time"), "products": ("OGB/ogbn_products", "sales_ranking")}
NAMES = ("digits", *_READERS, *_OGB)


def load(name: str, root: str | Path | None = None) -> Graph:
    """Load a benchmark graph: prepared by the CPF rule, or of OGB, whole and with the benchmark's split.

    Args:
        name: `digits` (embedded), `cora`, `citeseer`, `pubmed`, `computers`, `photo`, `cs`, `physics`, `arxiv` or
            `products`.
        root: folder with `Planetoid/`, `Amazon/` and `Coauthor/` as PyG lays them out, and `OGB/` as the package `ogb`
            does (`OGB/ogbn_arxiv/raw` and so on); `KD_DATA_ROOT` if not given. Nothing is written there: PyG's readers
            work on a copy, and what was read is kept in the user's cache folder.

    Raises:
        KeyError: no such name.
        FileNotFoundError: no such folder.
    """
    if name == "digits":
        return digits()
    if name not in NAMES:
        raise KeyError(f"no graph is called {name!r}; {nearest(name, NAMES)}")
    root = root or os.environ.get("KD_DATA_ROOT")
    if not root:
        raise FileNotFoundError(f"{name!r} is read from a data folder: set KD_DATA_ROOT, or pass root")
    folder = Path(root) / (_OGB[name][0] if name in _OGB else _READERS[name][1])
    if not (folder / "raw").is_dir():
        raise FileNotFoundError(f"{name!r} should lie in {folder / 'raw'}, which does not exist")
    kept = cache_folder() / f"{name}-{_state_of(folder)}.npz"
    if not kept.exists():
        _keep(read_ogb(folder, _OGB[name][1]) if name in _OGB else _read(name, folder / "raw"), kept)
    with np.load(kept, allow_pickle=False) as arrays:
        part = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    x = part["x"] if "x" in part else csr(part["crow"], part["column"], part["value"], int(part["width"]))
    split = Split(part["train"], part["val"], part["test"]) if "train" in part else None
    return Graph(x, part["edge_index"], part["y"], int(part["y"].max()) + 1, part["node_id"], split)


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
    split = vars(graph.split) if graph.split else {}
    tensors = {"edge_index": graph.edge_index, "y": graph.y, "node_id": graph.node_id, **features, **split}
    arrays: dict[str, Any] = {key: value.numpy() for key, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, **arrays)
    os.replace(file.name, path)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphkd"


def _state_of(folder: Path) -> str:
    """Changes when a file under `raw/` or `split/` does."""
    paths = sorted(path for part in ("raw", "split") for path in (folder / part).rglob("*"))
    files = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.blake2b(repr((str(folder.resolve()), files)).encode(), digest_size=8).hexdigest()
