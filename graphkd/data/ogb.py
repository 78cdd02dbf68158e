"""Node classification graphs of the Open Graph Benchmark, from its raw files.

Hu et al., "Open Graph Benchmark: Datasets for Machine Learning on Graphs", 2020.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from graphkd.data.cpf import undirected
from graphkd.data.graph import Graph
from graphkd.data.split import Split
from kdlosses.safe_pickle import damaged


def read_ogb(folder: Path, split: str) -> Graph:
    """Read `raw/edge.csv.gz`, `node-feat.csv.gz` and `node-label.csv.gz`, and `split/NAME/{train,valid,test}.csv.gz`.

    Neither the package `ogb` nor pandas is needed. All nodes are kept, also those without an edge; edges are made
    undirected.

    Args:
        folder: as the package lays it out, with `raw/` and `split/`.
        split: name of the benchmark's own split.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not fit together, or one is damaged.
    """

    def table(name: str, dtype: type) -> Tensor:
        file = folder / f"{name}.csv.gz"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: unpack the data set there again")
        try:
            return torch.from_numpy(np.loadtxt(file, dtype, delimiter=",", ndmin=2))
        except (ValueError, OSError, EOFError, zlib.error) as error:  # gzip's errors are of all these kinds
            raise damaged(str(file), error) from error

    x, y = table("raw/node-feat", np.float32), table("raw/node-label", np.float64)[:, 0]
    parts = [table(f"split/{split}/{part}", np.int64).flatten() for part in ("train", "valid", "test")]
    ids = torch.cat(parts)
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < len(x)):
        raise ValueError(f"{folder}/split/{split} names node {int(ids.max())}; there are features of {len(x)} nodes")
    graph = Graph.of(SimpleNamespace(x=x, y=y, edge_index=table("raw/edge", np.int64).T))
    return replace(undirected(graph), split=Split(*parts))
