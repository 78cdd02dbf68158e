"""LightGCN with a weight for each edge, of which edges and entries of the embedding can be taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.models import LightGCN

from graphkd.sparse.rows import csr


class Ties:
    r"""Undirected edges among nodes with a self-loop each, and the entries of $D^{-1/2} (A + I) D^{-1/2}$.

    Args:
        ends: `(2, E)`, each edge once.
        nodes: their number N.
        value: `(E,)` and `(N,)`, entries of the edges and of the self-loops, if not those of these edges' degrees.
    """

    def __init__(self, ends: Tensor, nodes: int, value: tuple[Tensor, Tensor] | None = None) -> None:
        self.ends, self.nodes = ends, nodes
        scale = (1 + torch.bincount(ends.flatten(), minlength=nodes)).float().rsqrt()
        self.value, self.loop = value or (scale[ends[0]] * scale[ends[1]], scale.square())
        both, own = torch.cat([ends, ends.flip(0)], 1), torch.arange(nodes)
        row, column = torch.cat([both, own.expand(2, -1)], 1)
        self._order = (row * nodes + column).argsort()
        self._column = column[self._order]
        self._crow = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=nodes).cumsum(0)])

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """The sparse symmetric matrix `(N, N)` with the entries of the edges times their weights `(E,)`."""
        value = self.value if weight is None else self.value * weight
        return csr(self._crow, self._column, torch.cat([value, value, self.loop])[self._order], self.nodes)

    def kept(self, edges: Tensor) -> Ties:
        """Some of the edges, by their places, with the entries that they have here."""
        return Ties(self.ends[:, edges], self.nodes, (self.value[edges], self.loop))


class _Spread(torch.autograd.Function):
    """The product of the matrix of `Ties` with `x`; its gradient with respect to weights needs no row an edge kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor, ties: Ties) -> Tensor:
        ctx.ties, ctx.matrix = ties, ties.matrix(weight)
        ctx.save_for_backward(x)
        return ctx.matrix @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        ((x,), (gradient,)) = ctx.saved_tensors, gradients
        a, b = ctx.ties.ends
        of_weight = None
        if ctx.needs_input_grad[0]:
            of_weight = ctx.ties.value * ((gradient[a] * x[b]).sum(1) + (gradient[b] * x[a]).sum(1))
        return of_weight, ctx.matrix @ gradient, None  # the matrix is symmetric


class WeightedGCN(nn.Module):
    r"""LightGCN in which each edge has a weight and each entry of the embedding may be away.

    $$ E^{(l)} = (W \odot \tilde A) E^{(l-1)}, \qquad E^{(0)} = M \odot E, \qquad \sum_{l=0}^{L} E^{(l)} $$

    with $\tilde A = D^{-1/2} (A + I) D^{-1/2}$. Both directions of an edge have one weight, self-loops have weight 1.
    With all weights 1 and nothing away it is LightGCN on edges and self-loops.

    Args:
        ties: the edges.
        width: of the embedding.
        layers: L.

    Attributes:
        weight: `(E,)`, of the edges that are there.
        kept: `(E,)`, their places among the edges of the start.
        embedding: `(N, width)`, 0 where an entry is away.
        mask: `(N, width)`, which entries are there.
    """

    kept: Tensor
    mask: Tensor

    def __init__(self, ties: Ties, width: int, layers: int) -> None:
        super().__init__()
        self.ties, self.layers = ties, layers
        self.weight = nn.Parameter(torch.ones(ties.ends.shape[1]))
        self.embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(ties.nodes, width)))
        self.register_buffer("kept", torch.arange(ties.ends.shape[1]))
        self.register_buffer("mask", torch.ones(ties.nodes, width, dtype=torch.bool))

    def spread(self) -> list[Tensor]:
        """The embeddings of all layers, from that of the nodes themselves on."""
        found = [self.embedding * self.mask]
        for _ in range(self.layers):
            found.append(_Spread.apply(self.weight, found[-1], self.ties))
        return found

    def forward(self) -> Tensor:
        """The sum over layers, `(N, width)`."""
        return _sum(self.spread())

    @torch.no_grad()
    def keep(self, edges: Tensor, entries: Tensor) -> None:
        """Take away what is not kept, for good; kept edges have weight 1 again, kept entries stay as they are.

        Args:
            edges: places `(K,)` among the edges that are there.
            entries: places among the flattened entries of the embedding.
        """
        self.ties, self.kept = self.ties.kept(edges), self.kept[edges]
        self.weight = nn.Parameter(torch.ones(len(edges)))
        self.mask = torch.zeros_like(self.mask).flatten().index_fill(0, entries, True).view_as(self.mask) & self.mask
        self.embedding.mul_(self.mask)


class Teacher(nn.Module):
    """PyG's LightGCN on edges and self-loops, its layers summed.

    Args:
        ties: the edges.
        width: of the embedding.
        layers: how many.
    """

    def __init__(self, ties: Ties, width: int, layers: int) -> None:
        super().__init__()
        self.ties, self.matrix = ties, ties.matrix()
        self.network = LightGCN(ties.nodes, width, layers, alpha=1.0, normalize=False)

    def spread(self) -> list[Tensor]:
        """The embeddings of all layers, from that of the nodes themselves on."""
        found = [self.network.embedding.weight]
        for layer in self.network.convs:
            found.append(layer(found[-1], self.matrix))
        return found

    def forward(self) -> Tensor:
        """The sum over layers, `(N, width)`."""
        return self.network.get_embedding(self.matrix)

    @torch.no_grad()
    def plain(self) -> WeightedGCN:
        """The same network, of which edges and entries can be taken away."""
        found = WeightedGCN(self.ties, self.network.embedding_dim, self.network.num_layers)
        found.embedding.copy_(self.network.embedding.weight)
        return found


def high_order(layers: Sequence[Tensor]) -> Tensor:
    """The sum of the layers from the second on: what is known of nodes two and more steps away."""
    return _sum(layers[2:])


def _sum(layers: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(layers)).sum(0)
