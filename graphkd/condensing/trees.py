"""Computation trees of nodes: their codes, and the trees themselves as one graph in which equal branches are shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def tree_codes(kind: Tensor, edge_index: Tensor, hops: int, edge_kind: Tensor | None = None) -> list[Tensor]:
    r"""Number the computation trees of all nodes, for each depth from 0 to `hops`.

    $$ c_0(v) = \mathrm{kind}(v), \qquad
       c_l(v) = \big( \mathrm{kind}(v), \{\!\{ (\mathrm{kind}(u, v), c_{l-1}(u)) : u \to v \}\!\} \big) $$

    The tree of depth l of a node has its kind at the root, and below it the tree of depth l - 1 of each node that
    sends it a message. Two nodes have the same number at a depth if and only if their trees are isomorphic, as rooted
    trees with labels: these are the colours of l rounds of Weisfeiler and Leman's test. No tree is built, and nothing
    is hashed to fewer bits.

    Args:
        kind: `(N,)`, what a node is, from 0. Nodes of several graphs may stand side by side.
        edge_index: `(2, E)`, source above target.
        hops: greatest depth.
        edge_kind: `(E,)`, what an edge is, from 0; all are alike if not given.

    Returns:
        numbers `(N,)` from 0 for each depth, `hops + 1` tensors. They are the same numbers for two nodes of one call.

    Paper: Shervashidze et al., "Weisfeiler-Lehman Graph Kernels", 2011.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> [codes.tolist() for codes in tree_codes(torch.zeros(3, dtype=torch.long), path, 1)]
    [[0, 0, 0], [0, 1, 0]]
    """
    source, target = edge_index.numpy()
    starts = np.bincount(target, minlength=len(kind)).cumsum()[:-1]
    own = kind.unique(return_inverse=True)[1]
    edges = np.zeros(len(source), np.int64) if edge_kind is None else edge_kind.numpy()
    found = [own]
    for _ in range(hops):
        below = edges * len(kind) + found[-1].numpy()[source]
        parts = np.split(below[np.lexsort((below, target))], starts)
        table: dict[tuple[int, bytes], int] = {}
        keys = ((k, part.tobytes()) for k, part in zip(own.tolist(), parts))
        found.append(torch.tensor([table.setdefault(key, len(table)) for key in keys], dtype=torch.long))
    return found


@dataclass(frozen=True, eq=False)
class Forest:
    """Computation trees as one directed graph, in which a branch that stands in several places is there once.

    A network of as many layers as the trees have hops, called on this graph, has at each root what it has at the node
    of the original graph that the tree is of. What it has elsewhere is of no meaning.

    Attributes:
        node: `(n,)`, a node of the original graph that each node stands for; roots come first, in the order asked for.
        edge_index: `(2, E)`, from child to parent, once for each child.
        missing: `(n,)`, how many nodes sent messages to a leaf in its graph: layers that count neighbours, as those of
            GCN do, read this of a leaf, too.
    """

    node: Tensor
    edge_index: Tensor
    missing: Tensor


def forest(codes: list[Tensor], edge_index: Tensor, roots: Tensor) -> Forest:
    """Build the trees with these numbers.

    A leaf stands for all nodes of its kind: as `missing` it has their mean number of neighbours, rounded, which is
    exact where the kind of a node tells it.

    Args:
        codes: of `tree_codes`.
        edge_index: which these were made of.
        roots: `(R,)`, numbers of trees of the greatest depth, each once.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> found = forest(tree_codes(torch.zeros(3, dtype=torch.long), path, 1), path, torch.tensor([1]))
    >>> found.node.tolist(), found.edge_index.tolist(), found.missing.tolist()
    ([1, 0], [[1, 1], [0, 0]], [0, 1])
    """
    source, target = edge_index
    nodes, edges, wanted, start = [], [], roots, 0
    for depth in range(len(codes) - 1, -1, -1):
        first = _first(codes[depth])[wanted]
        nodes.append(first)
        if not depth:
            break
        place = torch.full((len(codes[depth]),), -1)
        place[first] = torch.arange(len(first))
        inside = place[target] >= 0
        children = codes[depth - 1][source[inside]]
        wanted, below = children.unique(return_inverse=True)
        edges.append(torch.stack([start + len(first) + below, start + place[target[inside]]]))
        start += len(first)
    degree = torch.bincount(target, minlength=len(codes[0])).double()
    leaves = torch.bincount(codes[0])[wanted]
    mean = torch.bincount(codes[0], degree)[wanted] / leaves
    node = torch.cat(nodes)
    missing = torch.zeros(len(node), dtype=torch.long)
    missing[start:] = mean.round().long()
    return Forest(node, torch.cat(edges, 1), missing)


def _first(codes: Tensor) -> Tensor:
    """The first node with each number."""
    place = torch.arange(len(codes) - 1, -1, -1)
    found = torch.empty(int(codes.max()) + 1, dtype=torch.long)
    return found.scatter_reduce_(0, codes.flip(0), place, "amin", include_self=False)
