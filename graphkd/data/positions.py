"""Positional features of nodes: DeepWalk in its matrix form."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphkd.data.setting import Setting
from graphkd.extras import needs_extra
from graphkd.sparse.edges import both_ways
from graphkd.sparse.rows import Matrix, to_scipy
from graphkd.sparse.walks import Walks


class Inputs(NamedTuple):
    """Features of a student: of the seen nodes, of the whole graph with its edges, and of the whole graph without.

    `more` is what the recipe is told of each seen node beside them, by name, see `Lesson.extra`.
    """

    seen: Matrix
    linked: Matrix
    alone: Matrix
    more: Mapping[str, np.ndarray] = MappingProxyType({})


def with_positions(
    setting: Setting, seed: int, *, width: int = 64, walks: int = 5, length: int = 50, window: int = 5
) -> Inputs:
    """Append positions to the features, computed from the seen edges alone.

    A node that was not seen has the mean of the positions of its neighbours that were, and zeros if it has none or
    comes without edges.

    Args:
        setting: what is seen of the graph.
        seed: of the walks.
        width: see `deepwalk`.
        walks: likewise.
        length: likewise.
        window: likewise.
    """
    seen, whole = setting.seen, setting.whole
    positions = deepwalk(seen.edge_index, len(seen), seed, width=width, walks=walks, length=length, window=window)
    alone = positions.new_zeros(len(whole), width).index_copy_(0, setting.observed, positions)
    linked = alone.index_copy(
        0, setting.unseen, neighbour_mean(alone, whole.edge_index, setting.observed)[setting.unseen]
    )
    return Inputs(beside(seen.x, positions), beside(whole.x, linked), beside(whole.x, alone))


def deepwalk(
    edge_index: Tensor, nodes: int, seed: int = 0, *, width: int = 64, walks: int = 5, length: int = 50, window: int = 5
) -> Tensor:
    r"""Positions `(nodes, width)` from random walks, in the matrix form of DeepWalk.

    With $n_{uv}$ how often u and v stand at most `window` steps apart on a walk, and $n_u = \sum_v n_{uv}$,

    $$ M_{uv} = \max\Big(0, \log \frac{n_{uv} \sum_w n_w}{n_u n_v}\Big), \qquad
       M \approx U \Sigma V', \qquad \mathrm{positions} = U \Sigma^{1/2} $$

    which is what skip-gram with one negative sample factorises, solved by a truncated singular value decomposition
    in place of gradient steps. M is sparse and never larger than the number of pairs that were met. Edges count in both
    directions; a node without edges has position 0.

    Args:
        edge_index: `(2, E)`.
        nodes: number of nodes.
        seed: of the walks and of the decomposition.
        width: of a position.
        walks: that start at each node.
        length: nodes on a walk.
        window: steps on a walk that two nodes may be apart.

    Raises:
        ValueError: an option is out of range.

    Paper: Perozzi, Al-Rfou, Skiena, "DeepWalk: Online Learning of Social Representations", KDD 2014; the matrix is that
    of Qiu et al., "Network Embedding as Matrix Factorization", WSDM 2018, here counted on walks.

    >>> two_triangles = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
    >>> z = deepwalk(two_triangles, 6, width=2)
    >>> (z @ z.T > 0.1).long()  # near the nodes of the own triangle, not those of the other
    tensor([[1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [0, 0, 0, 1, 1, 1],
            [0, 0, 0, 1, 1, 1],
            [0, 0, 0, 1, 1, 1]])
    """
    if not 0 < width <= nodes:
        raise ValueError(f"deepwalk: width is from 1 to the number of nodes, {nodes}, got {width}")
    if min(walks, window) < 1 or length < 2:
        raise ValueError(
            f"deepwalk: walks and window must be at least 1, length at least 2, got walks={walks}, length={length}, "
            f"window={window}"
        )
    with needs_extra("graphkd.data.positions"):
        from scipy.sparse import csr_array
        from sklearn.utils.extmath import randomized_svd
    generator = torch.Generator().manual_seed(seed)
    counts = csr_array((nodes, nodes), dtype=np.float32)
    for _ in range(walks):
        walk = random_walks(edge_index, nodes, length, generator).numpy()
        for apart in range(1, min(window, length - 1) + 1):
            ends = walk[:-apart].ravel(), walk[apart:].ravel()
            counts = counts + csr_array((np.ones(len(ends[0]), dtype=np.float32), ends), shape=counts.shape)
    counts = (counts + counts.T).tocoo()
    often = np.bincount(counts.row, counts.data, minlength=nodes)
    row, column = counts.row, counts.col
    together = np.log(counts.data * often.sum() / (often[row] * often[column])).clip(0)
    matrix = csr_array((together, (row, column)), shape=counts.shape)
    u, s, _ = randomized_svd(matrix, width, n_iter=7, random_state=seed)
    return torch.from_numpy((u * np.sqrt(s)).astype(np.float32))


def random_walks(edge_index: Tensor, nodes: int, length: int, generator: torch.Generator) -> Tensor:
    """One walk from each node that has an edge, `(length, starts)`; each step is to a neighbour drawn uniformly.

    >>> random_walks(torch.tensor([[0], [2]]), 3, 4, torch.Generator())
    tensor([[0, 2],
            [2, 0],
            [0, 2],
            [2, 0]])
    """
    both = both_ways(edge_index)
    starts = torch.bincount(both[0], minlength=nodes).nonzero().flatten()
    return torch.cat([starts[None], Walks(both, nodes).walk(starts, length - 1, generator).T])


def neighbour_mean(values: Tensor, edge_index: Tensor, known: Tensor) -> Tensor:
    """Mean of the values of those neighbours whose ids are in `known`; 0 for a node that has none."""
    counts = torch.zeros(len(values), dtype=torch.bool)
    counts[known] = True
    source, target = edge_index[:, counts[edge_index[0]]]
    total = torch.zeros_like(values).index_add_(0, target, values[source])
    return total / torch.bincount(target, minlength=len(values)).clamp_min(1)[:, None]


def beside(x: Tensor, more: Tensor) -> Matrix:
    """Append columns to features; sparse if the features are."""
    if x.layout is not torch.sparse_csr:
        return torch.cat([x, more], dim=1)
    from scipy.sparse import csr_array, hstack

    return hstack([to_scipy(x), csr_array(more.numpy())], format="csr")
