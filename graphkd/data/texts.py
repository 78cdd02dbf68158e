"""Text-attributed graphs: a `Graph` with texts and their TF-IDF features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data.cpf import undirected
from graphkd.data.graph import Graph
from graphkd.data.split import Split
from graphkd.extras import needs_extra


def text_graph(
    texts: Sequence[str],
    edge_index: Any,
    y: Any,
    *,
    x: Any = None,
    class_names: Sequence[str] = (),
    min_df: int = 3,
    split: Split | None = None,
) -> Graph:
    """Build a graph from the texts of its nodes, with edges in both directions.

    Args:
        texts: one for each node, in order; may be empty strings.
        edge_index: `(2, E)`.
        y: labels `(N,)`, -1 where there is none.
        x: features `(N, F)`; TF-IDF of the texts if not given.
        class_names: what the classes are called; there may be more of them than labels in use.
        min_df: in how many texts a word of TF-IDF has to stand, at most a third of the texts.
        split: which nodes to train, select and test on.

    Raises:
        ValueError: texts, edges and labels do not fit together.

    >>> graph = text_graph(["a cat", "the cat sat", "sat nav"], [[0, 1], [1, 2]], [0, 0, 1], min_df=1)
    >>> graph.x.shape, graph.edge_index.shape, graph.texts[2]
    (torch.Size([3, 4]), torch.Size([2, 4]), 'sat nav')
    """
    if len(texts) != len(y):
        raise ValueError(f"there are {len(texts)} texts but labels of {len(y)} nodes")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"the text of node {place} is a {type(text).__name__}, not a string")
    classes = len(class_names) or None
    x = tfidf(texts, min_df) if x is None else x
    data = SimpleNamespace(x=x, edge_index=np.asarray(edge_index), y=y, num_classes=classes)
    graph = undirected(Graph.of(data, unlabelled="keep"))
    if graph.named and class_names:
        raise ValueError("the labels are names already: leave class_names out, or number the labels")
    names = tuple(class_names) or graph.class_names
    return Graph(
        **{**vars(graph), "split": split, "texts": tuple(texts), "class_names": names},
    )


def whole_characters(text: str) -> str:
    r"""Repair surrogates in a text: join pairs to one character, replace single ones by U+FFFD.

    >>> whole_characters("half \ud83d") == "half \ufffd"
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def tfidf(texts: Sequence[str], min_df: int = 3) -> Any:
    """TF-IDF of words in at least `min_df` texts, rows of L2 norm 1, as a scipy CSR matrix of float32.

    Raises:
        ValueError: there is no such word.
    """
    with needs_extra("TF-IDF features"):
        from sklearn.feature_extraction.text import TfidfVectorizer
    try:
        return TfidfVectorizer(min_df=min(min_df, max(1, len(texts) // 3)), dtype=np.float32).fit_transform(texts)
    except ValueError as error:
        raise ValueError(f"no word is in enough texts to make TF-IDF features: {error}") from error


def read_cane(folder: Path) -> Graph:
    """Read the text graphs of CANE: `data.txt` holds the text of a node a line, `graph.txt` edges `u<TAB>v` from 0, and
    `group.txt` a label a line, which may be blank.

    All nodes are kept. Tu et al., "CANE: Context-Aware Network Embedding for Relation Modeling", 2017.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not fit together.
    """
    texts = (folder / "data.txt").read_text(encoding="utf-8").split("\n")
    groups = (folder / "group.txt").read_text(encoding="utf-8").split("\n")
    texts = texts[:-1] if not texts[-1] else texts
    groups = groups[:-1] if len(groups) == len(texts) + 1 else groups  # a last line may be blank and lack its end
    if len(groups) != len(texts):
        raise ValueError(f"{folder}: data.txt has {len(texts)} lines, group.txt {len(groups)}")
    y = torch.tensor([int(group) if group.strip() else -1 for group in groups])
    edges = np.loadtxt(folder / "graph.txt", np.int64, delimiter="\t", ndmin=2).T
    return text_graph(texts, edges, y)


def of_tag(dataset: Any) -> Graph:
    """Convert a text-attributed graph of PyG, `torch_geometric.datasets.TAGDataset` or anything with its attributes.

    Its graph is `dataset._data` or `dataset[0]`, with `edge_index` and `y` and, if TF-IDF is not to stand in for them,
    `x`; its texts are `dataset.text`; its split, if there is one, `dataset.split_idx` with `train`, `valid` and `test`.

    Raises:
        ValueError: it has no texts, or another number of them than of nodes.
    """
    data = getattr(dataset, "_data", None)
    data = dataset[0] if data is None else data
    texts = getattr(dataset, "text", None)
    if texts is None:
        raise ValueError(f"{type(dataset).__name__} has no texts: expected one string a node in its attribute 'text'")
    parts = getattr(dataset, "split_idx", None)
    split = None if parts is None else Split(*(_ids(parts[name]) for name in ("train", "valid", "test")))
    y = data.y.flatten()
    return text_graph(list(texts), data.edge_index, y, x=getattr(data, "x", None), split=split)


def _ids(part: Any) -> Tensor:
    found = torch.as_tensor(part)
    return found.nonzero().flatten() if found.dtype is torch.bool else found.long()
