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

from graphkd.data.cpf import prepare
from graphkd.data.graph import Graph
from graphkd.data.kinds import as_graph, graph_set
from graphkd.data.texts import read_cane
from graphkd.extras import needs_extra
from graphkd.sparse.rows import rows

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


def keywords(graph: Graph, labels: int = 20) -> Graph:
    """The graph with its most frequent words as labels, several a node, and its other words as features.

    Derived from a graph whose features count words, such as `cora`: a label is 1 where the word stands in the paper. A
    teacher may learn it from the papers that this one cites, a student from the other words alone.

    Raises:
        ValueError: there are not that many words.

    >>> found = keywords(Graph.of(SimpleNamespace(x=torch.eye(4), y=[0, 1, 0, 1], edge_index=[[0], [1]])), 2)
    >>> found.x.shape, found.y.sum(0).tolist(), found.task
    (torch.Size([4, 2]), [1, 1], 'multi-label')
    """
    x = rows(graph.x).to_dense()
    if not 2 <= labels < x.shape[1]:
        raise ValueError(f"labels is from 2 to {x.shape[1] - 1}, the words that there are but one; got {labels}")
    order = (x > 0).sum(0).argsort(descending=True, stable=True)
    told, left = order[:labels], order[labels:].sort().values
    data = SimpleNamespace(x=x[:, left], edge_index=graph.edge_index, y=(x[:, told] > 0).long(), node_id=graph.node_id)
    return Graph.of(data, task="multi-label")


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
    "cane_cora_words": ("CANE-Cora", read_cane_words),
}
"""Name: folder under the data root, and what reads its `raw/`."""
