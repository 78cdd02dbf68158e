"""Ollivier-Ricci curvature of edges: exact for small neighbourhoods, bounded for large ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data.readers import cache_folder
from graphkd.extras import needs_extra
from kdlosses.arrays import open_array
from kdlosses.whole import whole

_BLOCK = 1 << 20  # pairs of neighbours at a time
_KEEP = 1 << 23  # pairs from which on the result is worth a file: some seconds of work


def edge_curvature(edge_index: Tensor, nodes: int, exact: int = 2500) -> tuple[Tensor, Tensor]:
    r"""Ollivier-Ricci curvature of each undirected edge, with laziness 1/2.

    $$ \kappa(u, v) = 1 - W_1(m_u, m_v), \qquad m_u = \tfrac12 \delta_u + \frac{1}{2 d_u} \sum_{i \in N(u)} \delta_i $$

    with distances in edges. 1 where two nodes share all they have, 0 along a grid, below 0 at a bottleneck. With
    $d_u \le d_v$ and t triangles on the edge,

    $$ \kappa = \frac1{d_u} + \frac1{d_v} - 1 + \frac{t}{2 d_u} + \frac{t}{d_v} + \frac{S}{2 d_u d_v} $$

    where S is what can be saved by carrying mass between neighbours of u and of v that are less than three edges apart:
    a matching with weights 1 and 2, which is one maximum flow in whole numbers. All edges of a block are solved in one
    call. Where $d_u d_v$ is more than `exact`, $\kappa$ is put between its bounds S = 0, exact without cycles of length
    4 and 5, and $\kappa \le 1 - \mathrm{TV}(m_u, m_v)$, where nothing is carried further than one edge: at the place
    where the largest exact edges are on average (in the middle if there are none).

    Args:
        edge_index: `(2, E)`; self-loops, duplicates and directions do not count.
        nodes: number of nodes.
        exact: product of the degrees up to which an edge is exact.

    Returns:
        the edges, once each, smaller node first, `(2, M)`; and their curvatures `(M,)`, float64. For a graph that takes
        seconds they are kept in the user's cache folder.

    Paper: Ollivier, "Ricci curvature of Markov chains on metric spaces", 2009; the lower bound is that of Jost and Liu,
    "Ollivier's Ricci curvature, local clustering and curvature-dimension inequalities on graphs", 2014, for lazy walks.
    The flow and the place between the bounds are our own.

    >>> triangle_and_tail = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 3]])
    >>> edge_curvature(triangle_and_tail, 4)[1].tolist()
    [0.75, 0.41666..., 0.41666..., 0.33333...]
    """
    with needs_extra("graphkd.data.curvature"):
        from scipy.sparse import coo_array
    source, target = edge_index.numpy()[:, (edge_index[0] != edge_index[1]).numpy()]
    pairs = np.unique(np.minimum(source, target) * nodes + np.maximum(source, target))
    low, high = pairs // nodes, pairs % nodes
    ends = np.concatenate([low, high]), np.concatenate([high, low])
    adjacent = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(nodes, nodes)).tocsr()
    adjacent.sort_indices()
    degree = np.diff(adjacent.indptr).astype(np.int64)
    swap = degree[low] > degree[high]
    u, v = np.where(swap, high, low), np.where(swap, low, high)
    cost = degree[u] * degree[v]
    key = hashlib.blake2b(pairs.astype("<i8").tobytes() + f"{nodes} {exact}".encode(), digest_size=8).hexdigest()
    kept = cache_folder() / f"curvature-{key}.npy"
    kappa = _kept(kept, len(u))
    if kappa is None:
        kappa = _curvature(adjacent, degree, u, v, cost, exact)
        if cost[cost <= exact].sum() > _KEEP:
            with whole(kept) as draft:
                np.save(draft, kappa)
    return torch.from_numpy(np.stack([low, high])), torch.from_numpy(kappa)


def _kept(path: Path, edges: int) -> np.ndarray | None:
    """Load the result of an earlier call; None if there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        kappa = np.array(open_array(path))
    except ValueError:
        return None
    return kappa if kappa.shape == (edges,) and kappa.dtype == np.float64 else None


def _curvature(
    adjacent: Any, degree: np.ndarray, u: np.ndarray, v: np.ndarray, cost: np.ndarray, exact: int
) -> np.ndarray:
    du, dv = degree[u], degree[v]
    order = np.argsort(cost, kind="stable")
    order = order[: np.searchsorted(cost[order], exact, side="right")]
    near = adjacent @ adjacent  # two edges apart, or none
    near.sort_indices()
    saved = np.zeros(len(u))
    blocks = np.flatnonzero(np.diff(np.cumsum(cost[order]) // _BLOCK)) + 1
    for block in np.split(order, blocks):
        saved[block] = _saved(adjacent, near, u[block], v[block], degree)
    triangles = np.zeros(len(u))
    for block in np.array_split(np.arange(len(u)), 1 + int(du.sum() // _BLOCK)):
        edge, neighbour = _neighbours(adjacent, u[block], degree)
        triangles[block] = np.bincount(edge, _has(adjacent, neighbour, v[block][edge]), len(block))
    least = 1 / du + 1 / dv - 1 + triangles / (2 * du) + triangles / dv
    most = 1 / (2 * du) + (1 + triangles) / (2 * dv)
    kappa = least + saved / (2 * du * dv)
    rest = cost > exact
    like = ~rest & (cost > exact / 2)
    room = (most - least)[like].sum()
    place = (kappa - least)[like].sum() / room if room > 0 else 0.5
    return np.where(rest, least + place * (most - least), kappa)


def _saved(adjacent: Any, near: Any, u: np.ndarray, v: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """S of each edge, in one flow from the neighbours of all u to those of all v that are no neighbours of u."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    left_edge, left = _neighbours(adjacent, u, degree, v)
    right_edge, right = _neighbours(adjacent, v, degree, u)
    shared = _has(adjacent, left, v[left_edge])
    private = ~_has(adjacent, right, u[right_edge])
    right_edge, right = right_edge[private], right[private]
    supply = np.where(shared, (degree[v] - degree[u])[left_edge], degree[v][left_edge])
    demand = degree[u][right_edge]
    # each left node of an edge with each right node of the same edge
    count = np.bincount(right_edge, minlength=len(u))
    i, place = _ranges(count[left_edge])
    j = (np.cumsum(count) - count)[left_edge][i] + place
    # a neighbour of both is 2 from the right nodes and saves 1 where it is 1; one of u alone is 3 from them
    one, two = (_has(matrix, left[i], right[j]) for matrix in (adjacent, near))
    kept = one | (two & ~shared[i])
    i, j, both = i[kept], j[kept], (one & ~shared[i])[kept]
    # the dual asks alpha_i + beta_j >= weight; with levels alpha >= 1, alpha >= 2 it is a vertex cover: a maximum flow
    first, second = 1 + np.arange(len(left)), 1 + len(left) + np.arange(len(left))
    third = 1 + 2 * len(left) + np.arange(len(right))
    fourth, sink = third + len(right), 1 + 2 * len(left) + 2 * len(right)
    most = np.minimum(supply[i], demand[j])
    arcs = (
        (np.zeros(2 * len(left), dtype=np.int64), np.concatenate([first, second]), np.tile(supply, 2)),
        (first[i], third[j], most),
        (first[i[both]], fourth[j[both]], most[both]),
        (second[i[both]], third[j[both]], most[both]),
        (np.concatenate([third, fourth]), np.full(2 * len(right), sink), np.tile(demand, 2)),
    )
    tail, head, capacity = (np.concatenate(part) for part in zip(*arcs))
    flow = maximum_flow(csr_array((capacity.astype(np.int32), (tail, head)), shape=(sink + 1, sink + 1)), 0, sink).flow
    out = flow[[0]].tocoo()
    return np.bincount(left_edge[(out.coords[1] - 1) % max(1, len(left))], out.data, len(u))


def _has(matrix: Any, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Which of these entries are set."""
    return (
        matrix[row, column] if len(row) else np.zeros(0, dtype=bool)
    )  # scipy: a sparse array of none, else a plain one


def _neighbours(
    adjacent: Any, nodes: np.ndarray, degree: np.ndarray, but: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `nodes`, and a neighbour of it, for all neighbours of each but one."""
    which, place = _ranges(degree[nodes])
    found = adjacent.indices[adjacent.indptr[nodes][which] + place]
    if but is None:
        return which, found
    others = found != but[which]
    return which[others], found[others]


def _ranges(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0, 1 ... of each count, with the number of the count that it belongs to."""
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
