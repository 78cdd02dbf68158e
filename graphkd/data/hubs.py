"""A synthetic citation graph with hubs; no download needed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from graphkd.data.cpf import prepare
from graphkd.data.graph import Graph
from graphkd.extras import needs_extra


def hubs(
    nodes: int = 16_000,
    classes: int = 8,
    cites: int = 3,
    exponent: float = 2.1,
    homophily: float = 0.75,
    words: int = 1000,
    length: int = 20,
    signal: float = 0.25,
    seed: int = 0,
) -> Graph:
    r"""A degree-corrected block model of citations, with bags of words; undirected, its largest component.

    Every node cites a few others, of its own class with a fixed probability and of any other class else, each in
    proportion to its fame $u^{-1 / (\gamma - 1)}$, u uniform in 0..1: degrees have a tail of that exponent. A word is
    drawn from the words of the class or from those of all classes; either way word k in order is $1 / k$ as frequent as
    the first, and a class has an order of its own.

    Args:
        nodes: how many are drawn; what is not joined to the largest component is left out.
        classes: number of classes, of equal size.
        cites: citations that a node makes; one drawn twice counts once.
        exponent: $\gamma$, above 1; the smaller, the greater the hubs. At 2.1 the greatest of 16,000 nodes has
            thousands of neighbours.
        homophily: share of the citations within a class.
        words: number of features.
        length: words of a node, on average (Poisson); one is there or not.
        signal: share of the words that the class draws.
        seed: of all that is drawn.

    Raises:
        ValueError: an option is out of range.

    >>> graph = hubs(nodes=1000)
    >>> graph.num_classes, bool(np.bincount(graph.edge_index[1]).max() > 100)
    (8, True)
    """
    if min(nodes, classes, cites, words, length) < 1 or exponent <= 1 or not (0 <= homophily <= 1 and 0 <= signal <= 1):
        raise ValueError(
            "hubs: sizes must be at least 1, exponent above 1, homophily and signal from 0 to 1, got "
            f"{nodes=}, {classes=}, {cites=}, {words=}, {length=}, {exponent=}, {homophily=}, {signal=}"
        )
    with needs_extra("graphkd.data.hubs"):
        from scipy.sparse import csr_matrix
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(nodes) % classes)
    fame = (1 - rng.random(nodes)) ** (-1 / (exponent - 1))
    citing = np.arange(nodes).repeat(cites)
    other = (y[citing] + rng.integers(1, max(classes, 2), len(citing))) % classes
    topic = np.where(rng.random(len(citing)) < homophily, y[citing], other)
    cited = np.empty_like(citing)
    for label in range(classes):
        members, wanted = np.flatnonzero(y == label), np.flatnonzero(topic == label)
        cited[wanted] = rng.choice(members, len(wanted), p=fame[members] / fame[members].sum())
    frequency = 1 / np.arange(1, words + 1)
    frequency /= frequency.sum()
    orders = np.stack([rng.permutation(words) for _ in range(classes + 1)])  # the last is that of all classes
    node = np.arange(nodes).repeat(np.maximum(rng.poisson(length, nodes), 1))
    spoken = np.where(rng.random(len(node)) < signal, y[node], classes)
    word = orders[spoken, rng.choice(words, len(node), p=frequency)]
    x = csr_matrix((np.ones(len(node), dtype=np.float32), (node, word)), shape=(nodes, words))
    x.sum_duplicates()
    x.data[:] = 1
    data = SimpleNamespace(x=x, edge_index=np.stack([citing, cited]), y=y, num_classes=classes)
    return prepare(data)
