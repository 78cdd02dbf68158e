"""Load graphs by name: PyG and CANE, prepared by the CPF rule; OGB, with its own split; and your own."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.cpf import SPLITS, prepare, undirected
from graphkd.data.digits import digits
from graphkd.data.graph import Graph
from graphkd.data.hubs import hubs
from graphkd.data.kinds import as_graph
from graphkd.data.ogb import read_ogb
from graphkd.data.other_tasks import READERS, keywords
from graphkd.data.raw_files import read_pickle
from graphkd.data.split import Split
from graphkd.data.text_files import read_texts
from graphkd.data.texts import read_cane
from graphkd.extras import needs_extra
from graphkd.sparse.rows import csr
from kdlosses import nearest
from kdlosses.discover import imported
from kdlosses.options import check_known
from kdlosses.safe_pickle import damaged
from kdlosses.whole import whole

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
_CANE = {"cane_cora": "CANE-Cora"}
_FOLDERS = {
    **{name: folder for name, (_, folder) in _READERS.items()},
    **{name: folder for name, (folder, _) in _OGB.items()},
    **_CANE,
    **{name: folder for name, (folder, _) in READERS.items()},
    "cora_words": "Planetoid/Cora",
}
NAMES = ("digits", *_FOLDERS)


def load(name: str | Mapping[str, Any], root: str | Path | None = None, unsafe: bool = False) -> Graph:
    """Load a benchmark graph: prepared by the CPF rule; of OGB whole, with the benchmark's split.

    Args:
        name: `digits` (embedded), `cora`, `citeseer`, `pubmed`, `computers`, `photo`, `cs`, `physics`, `arxiv`,
            `products` or, with texts, `cane_cora`. Of other tasks, see `graphkd.data.other_tasks`: the sets of graphs
            `mutag`, `proteins`, `nci1` and `imdb-binary`, `cora_words` with several labels and `cane_cora_words` with
            two kinds of nodes. Or `dict(type=name, split=rule)` with a rule of
            `graphkd.data.cpf.SPLITS` by name or as `dict(type=..., **options)`; or `dict(type="texts", nodes=file,
            edges=file, **options)` for texts of one's own, see `read_texts`, kept whole; or `dict(type="hubs",
            **options)` for a graph that is drawn, see `hubs`. Or `"module:name"`, also as a type with options: a
            function of one's own that returns a PyG `Data`, or whatever `Graph.of` takes, kept whole.
        root: folder with `Planetoid/`, `Amazon/` and `Coauthor/` as PyG lays them out, `OGB/` as the package `ogb` does
            (`OGB/ogbn_arxiv/raw` and so on), `CANE-Cora/raw`, and `TUDataset/MUTAG/raw` and so on;
            `KD_DATA_ROOT` if not given. Nothing is written there: PyG's readers work on a copy, and what was read is
            kept in the user's cache folder.
        unsafe: let PyG unpickle the raw files of Planetoid unchecked, which runs whatever code they contain. Only for
            files that you trust.

    Raises:
        KeyError: no such name.
        FileNotFoundError: no such folder.
        ValueError: a raw file is damaged, or a pickle that names code to run; nothing of it was executed.
    """
    if not isinstance(name, str) or ":" in name:
        options = dict(type=name) if isinstance(name, str) else dict(name)
        kind, rule = str(options.pop("type", None)), options.pop("split", None)
        draw = None if rule is None else _rule(rule)
        if kind == "texts":
            graph = read_texts(**options)
        elif kind == "hubs":
            graph = hubs(**options)
        elif ":" in kind:
            graph = undirected(as_graph(_called(kind, options)))
        elif kind not in NAMES:
            raise KeyError(f"no graph is called {kind!r}; {nearest(kind, (*NAMES, 'hubs', 'texts'))}")
        elif options:
            raise TypeError(f"graph {kind!r} has no option {next(iter(options))!r}; known: split")
        else:
            graph = load(kind, root, unsafe)
        return graph if draw is None else replace(graph, split=draw)
    if name == "digits":
        return digits()
    if name not in NAMES:
        raise KeyError(f"no graph is called {name!r}; {nearest(name, NAMES)}")
    root = root or os.environ.get("KD_DATA_ROOT")
    if not root:
        raise FileNotFoundError(f"{name!r} is read from a data folder: set KD_DATA_ROOT, or pass root")
    folder = Path(root) / _FOLDERS[name]
    if not (folder / "raw").is_dir():
        raise FileNotFoundError(f"{name!r} should lie in {folder / 'raw'}, which does not exist")
    if name in _CANE:
        return prepare(read_cane(folder / "raw"))
    if name == "cora_words":
        return keywords(load("cora", root, unsafe))
    if name in READERS:
        return READERS[name][1](folder / "raw")
    kept = cache_folder() / f"{name}-{_state_of(folder)}.npz"
    found = _kept(kept)
    if found is None:
        _keep(read_ogb(folder, _OGB[name][1]) if name in _OGB else _read(name, folder / "raw", unsafe), kept)
        found = _kept(kept)
        assert found is not None
    return found


def _called(kind: str, options: Mapping[str, Any]) -> Any:
    """What the user's function `module:name` returns."""
    function = imported("graph", kind)
    if not callable(function):
        raise TypeError(f"graph {kind!r} must be a function that returns a graph, it is a {type(function).__name__}")
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise TypeError(f"graph {kind!r} cannot be called with the options {sorted(options)}: {error}") from error
    except ValueError:  # it has no signature to look at
        pass
    return function(**options)


def _kept(path: Path) -> Graph | None:
    """Load the graph saved by an earlier call; None if there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            part = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        x = part["x"] if "x" in part else csr(part["crow"], part["column"], part["value"], int(part["width"]))
        split = Split(part["train"], part["val"], part["test"]) if "train" in part else None
        return Graph(x, part["edge_index"], part["y"], int(part["y"].max()) + 1, part["node_id"], split)
    except Exception as error:  # a damaged archive can fail in any of Python's and NumPy's ways
        warnings.warn(f"{path} is damaged ({type(error).__name__}: {error}) and is rebuilt", stacklevel=3)
        return None


def _rule(spec: Any) -> Any:
    """A rule that draws a split, from its name and options."""
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = options.pop("type", None)
    if kind not in SPLITS:
        raise KeyError(f"no split is called {kind!r}; {nearest(str(kind), SPLITS)}")
    check_known(f"split {kind!r}", options, list(inspect.signature(SPLITS[kind]).parameters)[2:])
    return partial(SPLITS[kind], **options)


def _read(name: str, raw: Path, unsafe: bool) -> Graph:
    with needs_extra(f"reading {name!r}"):
        from torch_geometric import datasets
    reader, folder = _READERS[name]
    with tempfile.TemporaryDirectory() as scratch:  # the readers write processed/ beside raw/
        copy = Path(scratch) / Path(folder).name
        shutil.copytree(raw, copy / "raw")
        if reader == "Planetoid" and not unsafe:  # PyG unpickles them, of the other readers NumPy refuses objects
            for file in sorted((copy / "raw").glob("ind.*")):
                if not file.name.endswith(".index"):
                    read_pickle(file, raw / file.name)
        try:
            data = getattr(datasets, reader)(scratch, copy.name)[0]
        except (OSError, ImportError):
            raise
        except Exception as error:  # a damaged file can fail in any of PyG's, SciPy's and NumPy's ways
            raise damaged(f"a file of {name!r} in {raw}", error) from error
        return prepare(replace(Graph.of(data), split=None))  # the protocol draws its own


def _keep(graph: Graph, path: Path) -> None:
    x = graph.x
    sparse = x.layout is torch.sparse_csr
    features = (
        {"crow": x.crow_indices(), "column": x.col_indices(), "value": x.values(), "width": torch.tensor(x.shape[1])}
        if sparse
        else {"x": x}
    )
    split = vars(graph.split) if isinstance(graph.split, Split) else {}
    tensors = {"edge_index": graph.edge_index, "y": graph.y, "node_id": graph.node_id, **features, **split}
    arrays: dict[str, Any] = {key: value.numpy() for key, value in tensors.items()}
    with whole(path) as draft:
        np.savez(draft, **arrays)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphkd"


def _state_of(folder: Path) -> str:
    """Changes when a file under `raw/` or `split/` does."""
    paths = sorted(path for part in ("raw", "split") for path in (folder / part).rglob("*"))
    files = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.blake2b(repr((str(folder.resolve()), files)).encode(), digest_size=8).hexdigest()
