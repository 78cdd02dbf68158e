"""Edges: teacher targets summed over them, so that a step costs O(nodes); orders of edges; propagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from graphkd.sparse.rows import csr

_BLOCK = 1 << 16  # edges at a time, so that memory does not grow with their number


class EdgeTargets(NamedTuple):
    r"""A KL divergence along edges, written as a cross-entropy of nodes, see `neighbour_targets`.

    Attributes:
        q: `(N, C)`, the weighted sum of the targets of a node.
        constant: c, minus the mean entropy of the targets.
        scale: N over the sum of all weights: nodes over edges.
    """

    q: Tensor
    constant: Tensor
    scale: Tensor

    def loss(self, logits: Tensor, nodes: Tensor | slice = slice(None)) -> Tensor:
        """Mean loss over edges from the student's logits of all nodes, or estimated from a batch of `nodes`."""
        return self.constant - self.scale * (self.q[nodes] * logits.log_softmax(1)).sum(1).mean()


def neighbour_targets(
    teacher: Tensor,
    edge_index: Tensor,
    weight: Tensor | None = None,
    own: Tensor | None = None,
    into: Tensor | None = None,
) -> EdgeTargets:
    r"""Precompute the sum of teacher targets over the edges into each node.

    $$ q_i = v_i p^t_i + \sum_{(j \to i)} w_{ji} \, p^t_j, \qquad
       \frac{1}{W} \Bigl( \sum_i v_i \mathrm{KL}(p^t_i \,\|\, p^s_i)
         + \sum_{(j \to i)} w_{ji} \, \mathrm{KL}(p^t_j \,\|\, p^s_i) \Bigr)
       = c - \frac{1}{W} \sum_i \sum_k q_{ik} \log p^s_{ik} $$

    with W the sum of all weights. The gradient is that of the mean over edges, and its value too; the edges are read
    once and a batch needs its own rows of q alone. With all weights 1 it is `ffg2m_low`, without edges `kl`.

    Args:
        teacher: logits `(N, C)`, divided by the temperature; the student's are to be divided as well.
        edge_index: `(2, E)`, source j above target i. Self-loops do not count: every node has the one of `own`.
        weight: w `(E,)`, all 1 if not given; edges that a sampler left out are best left out of `edge_index`.
        own: v `(N,)`, of a node's own target; all 1 if not given.
        into: `(N,)`, w of all edges into a node, where it is the same for them; no row per edge is made.

    >>> neighbour_targets(torch.zeros(3, 2), torch.tensor([[0, 1], [1, 0]])).q  # two neighbours and a lone node
    tensor([[1.0000, 1.0000],
            [1.0000, 1.0000],
            [0.5000, 0.5000]])
    """
    log_p = F.log_softmax(teacher, dim=1)
    p = log_p.exp()
    reach = torch.ones_like(p[:, 0]) if own is None else own.to(p.dtype).clone()
    q = p.clone() if own is None else p * reach[:, None]
    for block in _proper(edge_index).split(_BLOCK):
        source, target = edge_index[:, block]
        told, share = p[source], torch.ones_like(p[:1, 0]).expand(len(block))
        each = weight[block] if weight is not None else None if into is None else into[target]
        if each is not None:
            share = each.to(p.dtype)
            told = told * share[:, None]
        q.index_add_(0, target, told)
        reach.index_add_(0, source, share)
    total = reach.sum()
    return EdgeTargets(q, (reach * (p * log_p).sum(1)).sum() / total, len(q) / q.sum())


def even_targets(teacher: Tensor, edge_index: Tensor, even: bool | float) -> EdgeTargets:
    r"""`neighbour_targets` with equal weight for every node, whatever its number of neighbours.

    Args:
        teacher: logits `(N, C)`, divided by the temperature.
        edge_index: `(2, E)`, self-loops do not count.
        even: False: the mean over edges and self-loops, in which node i counts $1 + d_i$ times. True: each node is told
            the mean over itself and its neighbours. A share s from 0 to 1: it is told
            $s \, p^t_i + \frac{1 - s}{d_i} \sum_{(j \to i)} p^t_j$, without neighbours $p^t_i$.

    >>> even_targets(torch.zeros(3, 2), torch.tensor([[0, 2], [1, 1]]), even=0.5).q.sum(1)
    tensor([1., 1., 1.])
    """
    if even is False:
        return neighbour_targets(teacher, edge_index)
    neighbours = degree(edge_index, len(teacher)).to(teacher.dtype)
    if even is True:
        own = into = 1 / (1 + neighbours)
    else:
        own = torch.full_like(neighbours, even).masked_fill(neighbours == 0, 1)
        into = (1 - own) / neighbours.clamp_min(1)
    return neighbour_targets(teacher, edge_index, own=own, into=into)


def degree(edge_index: Tensor, nodes: int) -> Tensor:
    """In-degree of each node `(N,)`, without self-loops.

    >>> degree(torch.tensor([[0, 1, 2], [1, 1, 1]]), 3)
    tensor([0, 2, 0])
    """
    source, target = edge_index
    return torch.bincount(target, minlength=nodes) - torch.bincount(target[source == target], minlength=nodes)


def drop_self_loops(edge_index: Tensor) -> Tensor:
    """`edge_index` without the edges that join a node to itself."""
    return edge_index[:, _proper(edge_index)]


def with_self_loops(edge_index: Tensor, nodes: int) -> Tensor:
    """`edge_index` with exactly one self-loop a node, the loops last."""
    loops = torch.arange(nodes, device=edge_index.device).expand(2, -1)
    return torch.cat([drop_self_loops(edge_index), loops], dim=1)


def _proper(edge_index: Tensor) -> Tensor:
    """Which columns join two different nodes."""
    return (edge_index[0] != edge_index[1]).nonzero().flatten()


def both_ways(edges: Tensor) -> Tensor:
    """Edges in both directions, for message passing."""
    return torch.cat([edges, edges.flip(0)], 1)


def lower_first(edge_index: Tensor) -> Tensor:
    """Each edge once, from the lower node, without self-loops, if all edges run both ways; else all as they are.

    >>> lower_first(torch.tensor([[0, 1, 2, 1], [1, 0, 1, 2]]))
    tensor([[0, 1],
            [1, 2]])
    >>> lower_first(torch.tensor([[0, 1, 2], [1, 0, 1]])).shape
    torch.Size([2, 3])
    """
    source, target = edge_index
    up, down = edge_index[:, source < target], edge_index[:, source > target].flip(0)
    size = 1 + int(edge_index.max()) if edge_index.numel() else 0
    same = [(size * low + high).sort().values for low, high in (up, down)]
    return up if torch.equal(*same) else edge_index


def by_target(edge_index: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Sort edges by target: return row offsets `(N + 1,)` and sources `(E,)`, as in CSR.

    >>> by_target(torch.tensor([[2, 0, 1], [1, 0, 0]]), 3)
    (tensor([0, 2, 3, 3]), tensor([0, 1, 2]))
    """
    source, target = edge_index
    count = torch.bincount(target, minlength=nodes)
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return crow, source if _ascending(target) else source[target.argsort(stable=True)]


def _ascending(values: Tensor) -> bool:
    """Whether none is smaller than the one before; reads in blocks, so that a map stays on disk."""
    blocks = (values[start : start + _BLOCK + 1] for start in range(0, len(values), _BLOCK))
    return all(bool((block[1:] >= block[:-1]).all()) for block in blocks)


_SORTED = WeakTensorKeyDictionary()  # adjacencies, for as long as their edges live


def adjacency(
    edge_index: Tensor, nodes: int, dtype: torch.dtype = torch.float32, weight: Tensor | None = None
) -> Tensor:
    """The sparse CSR matrix A `(N, N)` of edges, $A_{ij}$ the number of those from j to i, or the sum of their weights.

    A product with it adds up what the sources say without a row per edge. The edges are sorted when a tensor of them is
    first seen; it must not be changed in place after that.

    >>> adjacency(torch.tensor([[2, 0, 1], [1, 0, 0]]), 3) @ torch.tensor([[1.0], [10.0], [100.0]])
    tensor([[ 11.],
            [100.],
            [  0.]])
    """
    found = _SORTED.setdefault(edge_index, {})
    key = nodes, dtype, weight is not None
    if key not in found or found[key][0] is not weight:
        with torch.inference_mode(False):  # or no gradient could ever pass it
            crow, source = by_target(edge_index, nodes)
            source = source.clone()  # a view of the key would keep it alive
            value = torch.ones(len(source), dtype=dtype, device=source.device)
            if weight is not None:
                value = weight[edge_index[1].argsort(stable=True)].to(dtype)
            found[key] = weight, csr(crow, source, value, nodes)
    return found[key][1]


def neighbour_average(h: Tensor, edge_index: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Mean over a node and its neighbours, $(h_i + \sum_j w_{ji} h_j) / (1 + \sum_j w_{ji})$; all w 1 if not given.

    Half precision is summed in float32.

    >>> neighbour_average(torch.tensor([[3.0], [1.0]]), torch.tensor([[0], [1]]), torch.tensor([3.0])).T
    tensor([[3.0000, 2.5000]])
    """
    z = h.float() if h.dtype in (torch.float16, torch.bfloat16) else h
    a = adjacency(edge_index, len(z), z.dtype, weight)
    with torch.autocast(z.device.type, enabled=False):  # no sparse product is in half precision
        reach = a.crow_indices().diff().unsqueeze(1) if weight is None else a @ z.new_ones(len(z), 1)
        return ((a @ z + z) / (reach + 1)).to(h.dtype)


def smoother(crow: Tensor, source: Tensor, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    r"""One step of propagation, $z \mapsto D^{-1/2} (A + I) D^{-1/2} z$, along edges without self-loops.

    Args:
        crow: where the edges into each node begin, see `by_target`.
        source: where they come from.
        dtype: of z.

    >>> smoother(*by_target(torch.tensor([[0, 1], [1, 0]]), 3))(torch.tensor([[2.0], [4.0], [5.0]])).round().T
    tensor([[3., 3., 5.]])
    """
    adjacency = csr(crow, source, torch.ones(len(source), dtype=dtype, device=source.device), len(crow) - 1)
    scale = (crow.diff() + 1).to(dtype).rsqrt().unsqueeze(1)

    def hop(z: Tensor) -> Tensor:
        z = scale * z
        return scale * (adjacency @ z + z)

    return hop
