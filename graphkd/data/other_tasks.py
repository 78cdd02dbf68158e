"""Real data for tasks other than classes of nodes: sets of graphs, several labels, several kinds of nodes.

The first are public benchmarks as they are. The other two are derived here from public data, by rules that their
functions state: there is no benchmark of these tasks among the files that this package reads.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data.as_graph import as_graph, graph_set
from graphkd.data.cpf import prepare
from graphkd.data.graph import Graph
from graphkd.data.texts import read_cane
from graphkd.extras import needs_extra

_MOST = 63  # degrees above it count as this one


def read_tu(folder: Path) -> Graph:
    """Read a set of graphs in the format of TUDataset: `NAME_A.txt`, `NAME_graph_indicator.txt` and so on.

    Features of a node are its label, one-hot; where nodes have none, its degree, one-hot up to 63. Attributes of nodes
    and labels of edges are left out. Morris et al., "TUDataset: A collection of benchmark datasets for learning with
    graphs", 2020.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not fit together.
    """
    name = folder.parent.name
    batch = _column(folder / f"{name}_graph_indicator.txt") - 1
    ends = torch.from_numpy(np.loadtxt(folder / f"{name}_A.txt", np.int64, delimiter=",", ndmin=2).T) - 1
    y = _column(folder / f"{name}_graph_labels.txt").unique(return_inverse=True)[1]
    if not bool((batch.diff() >= 0).all()) or int(batch.max()) + 1 != len(y) or int(ends.max()) >= len(batch):
        raise ValueError(f"{folder}: graph indicator, labels and edges do not fit together")
    file = folder / f"{name}_node_labels.txt"
    kinds = (
        _column(file).unique(return_inverse=True)[1]
        if file.is_file()
        else torch.bincount(ends[1], minlength=len(batch)).clamp_max(_MOST)
    )
    return graph_set(torch.nn.functional.one_hot(kinds).float(), ends, batch, y)


def _column(file: Path) -> Tensor:
    return torch.from_numpy(np.loadtxt(file, np.int64, ndmin=1))


def read_lastfm(folder: Path, labels: int = 20, least: int = 5) -> Graph:
    """Users of Last.fm, joined to their friends; to be predicted is which of the most popular artists each listens to.

    Derived from `data1.txt` and `test1.txt`, lines `user artist plays`, and `trustnetwork.txt`, lines `user user`: the
    labels are the artists with most listeners, 1 where the user has played them; the features, 0 or 1, all other
    artists with enough listeners. The largest component of the friends is kept. Cantador et al., "Second Workshop on
    Information Heterogeneity and Fusion in Recommender Systems", 2011 (the data).

    Args:
        folder: with the three files.
        labels: how many artists are predicted.
        least: listeners that an artist has at least, to be a feature.
    """
    pairs = np.concatenate([np.loadtxt(folder / file, np.int64, ndmin=2)[:, :2] for file in ("data1.txt", "test1.txt")])
    pairs = np.unique(pairs, axis=0)
    users, user = np.unique(pairs[:, 0], return_inverse=True)
    artists, artist = np.unique(pairs[:, 1], return_inverse=True)
    listeners = np.bincount(artist)
    order = np.argsort(-listeners, kind="stable")
    kept = np.sort(order[labels:][listeners[order[labels:]] >= least])
    played = np.zeros((len(users), len(artists)), np.float32)
    played[user, artist] = 1
    friends = np.loadtxt(folder / "trustnetwork.txt", np.int64, ndmin=2)
    friends = friends[np.isin(friends, users).all(1)]
    edges = np.searchsorted(users, friends).T
    data = SimpleNamespace(x=played[:, kept], edge_index=edges, y=played[:, order[:labels]].astype(np.int64))
    return prepare(Graph.of(data, task="multi-label"))


def read_cane_words(folder: Path, least: int = 10, width: int = 64) -> Graph:
    """The papers of CANE's Cora beside the words of their abstracts; to be predicted is the class of a paper.

    Derived from the files that `read_cane` reads: kinds of edges are paper cites paper and paper has word, each in
    both directions. A word is one that stands in at least `least` abstracts; a paper's features are TF-IDF of these, a
    word's are its column of that table by a truncated SVD of `width` dimensions (latent semantic analysis).
    """
    with needs_extra("reading 'cane_cora_words'"):
        from sklearn.decomposition import TruncatedSVD
        from torch_geometric.data import HeteroData
    from graphkd.data.texts import tfidf

    graph = prepare(read_cane(folder))
    assert graph.texts is not None
    table = tfidf(graph.texts, least)
    data: Any = HeteroData()
    data["paper"].x, data["paper"].y = torch.from_numpy(table.toarray()), graph.y
    vectors = TruncatedSVD(width, random_state=0).fit_transform(table.T)
    data["word"].x = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)).float()
    paper, word = (torch.from_numpy(each).long() for each in table.nonzero())
    data["paper", "cites", "paper"].edge_index = graph.edge_index
    data["paper", "has", "word"].edge_index = torch.stack([paper, word])
    data["word", "in", "paper"].edge_index = torch.stack([word, paper])
    return as_graph(data, "keep", target="paper")


READERS = {
    **{name.lower(): (f"TUDataset/{name}", read_tu) for name in ("MUTAG", "PROTEINS", "NCI1", "IMDB-BINARY")},
    "lastfm": ("LastFM", read_lastfm),
    "cane_cora_words": ("CANE-Cora", read_cane_words),
}
"""Name: folder under the data root, and what reads its `raw/`."""
