"""Networks that read of a graph what is stored of it beforehand: no step of theirs looks at edges."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphkd.sparse.neighbours import near
from graphkd.sparse.rows import Matrix, csr, rows
from graphkd.teachers.gnn import GNN

Space = Callable[[int, int], Tensor]
"""A function `(rows, columns) -> tensor` of float32 to be filled."""
BLOCK = 4096
"""Nodes at a time."""


class StoredGNN(GNN):
    """A network that can be trained and applied in batches of nodes from what `store` leaves.

    It gives a node the same from there as on the whole graph.
    """

    @abstractmethod
    def store(
        self,
        x: Matrix,
        crow: Tensor,
        source: Tensor,
        *,
        share: tuple[int, int] = (0, 1),
        space: Space = torch.empty,
        joined: Callable[[], object] = lambda: None,
    ) -> Any:
        """What `answer` reads of a graph, which goes into `space`.

        Args:
            x: features `(N, F)`, in memory or on disk.
            crow: where the edges into each node begin, see `by_target`.
            source: where they come from.
            share: `(i, k)`, part i from 0 of k: blocks of this process, when k processes share the nodes.
            space: makes what is written to, of k processes in a file that all of them see.
            joined: called when this process has written its part; returns when all have.
        """

    @abstractmethod
    def answer(self, stored: Any, nodes: Tensor) -> Tensor:
        """Logits `(n, C)` of nodes, with gradient; costs as much whatever the size of the graph."""

    def check_batch(self, size: int) -> None:
        """Raise ValueError if it cannot learn from batches of so many nodes; asked before anything is stored."""


def blocks(nodes: int, share: tuple[int, int] = (0, 1)) -> list[Tensor]:
    """The nodes in blocks, those of part i of k where the share is `(i, k)`.

    >>> [len(block) for block in blocks(10_000, (1, 2))]
    [4096, 1808]
    """
    parts = torch.arange(nodes).split(BLOCK)
    return list(parts[len(parts) * share[0] // share[1] : len(parts) * (share[0] + 1) // share[1]])


@torch.no_grad()
def hop_features(
    x: Matrix,
    crow: Tensor,
    source: Tensor,
    hops: int,
    *,
    share: tuple[int, int] = (0, 1),
    space: Space = torch.empty,
    joined: Callable[[], object] = lambda: None,
) -> list[Tensor]:
    r"""The features averaged over 1, 2, ... hops, $\hat A x, \hat A^2 x, \dots$, with $\hat A$ as in `smoother`.

    Block by block, so that nothing but the features themselves grows with the graph.

    Args:
        x: features `(N, F)`, in memory or on disk.
        crow: where the edges into each node begin, without self-loops, see `by_target`.
        source: where they come from.
        hops: how many.
        share: see `StoredGNN.store`.
        space: likewise.
        joined: likewise.

    >>> x = torch.tensor([[2.0], [4.0], [5.0]])
    >>> hop_features(x, torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0]), 1)[0].round().T  # nodes 0 and 1 are joined
    tensor([[3., 3., 5.]])
    """
    found: list[Tensor] = []
    for h in itertools.islice(itertools.chain([x], found), hops):  # each is made from the one before
        out = space(*x.shape)
        for asked in blocks(len(crow) - 1, share):
            around = near(crow, source, asked, 1)
            scale = (crow[around.nodes + 1] - crow[around.nodes] + 1).float().rsqrt().unsqueeze(1)
            part = scale * rows(h, around.nodes).to_dense()
            begins = crow[asked[0] : asked[-1] + 2]
            summed = csr(begins - begins[0], around.edges[0], torch.ones(around.edges.shape[1]), len(part)) @ part
            out[asked] = scale[: len(asked)] * (summed + part[: len(asked)])
        joined()
        found.append(out)
    return found


def check_stored(network: StoredGNN, x: Tensor, edge_index: Tensor, crow: Tensor, source: Tensor) -> None:
    """Raise ValueError unless a network gives a small graph, from what it stores, what it gives it as a whole.

    Args:
        network: in evaluation mode.
        x: features `(N, F)` of the small graph.
        edge_index: its edges.
        crow: the same, sorted, see `by_target`.
        source: likewise.
    """
    with torch.inference_mode():
        whole = network(x, edge_index)
        parts = network.answer(network.store(x, crow, source), torch.arange(len(x)))
        if not torch.allclose(parts, whole, rtol=1e-3, atol=1e-3 * max(1.0, float(whole.abs().max()))):
            raise ValueError(f"the teacher {type(network).__name__} says other things from what it stores of a graph")
