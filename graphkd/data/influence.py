"""Features averaged over several hops, computed once, and how much each node influences the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphkd.data.positions import Inputs
from graphkd.data.setting import Setting
from graphkd.sparse.edges import by_target, drop_self_loops, smoother
from graphkd.sparse.rows import Matrix, compact, rows
from graphkd.spec import whole
from kdlosses.unit import unit

_ROWS = 4096  # rows of similarities held at once
SCORES = ("cosine", "jacobian")


def with_hops(
    setting: Setting,
    seed: int,
    *,
    hops: int = 2,
    score: str = "cosine",
    reach: int = 2,
) -> Inputs:
    """Replace the features by their mean over `hops` hops, and tell the recipe the `influence` of each seen node.

    A seen node has the features that the seen edges give it. A node that was not seen has those of all edges if it
    comes with them; at a cold start it has its own features, which is what the mean is without an edge. The influence
    is of the features as they were, on the seen edges.

    Args:
        setting: what is seen of the graph.
        seed: not used; nothing is drawn.
        hops: see `multi_hop`.
        score: see `influence`.
        reach: likewise.
    """
    checked_hops(hops=hops, score=score, reach=reach)
    seen, graph = setting.seen, setting.whole
    told = influence(seen.x, seen.edge_index, score, reach)
    near = multi_hop(seen.x, seen.edge_index, hops)
    more = {"influence": told.numpy()}
    if not len(setting.unseen):
        return Inputs(near, near, near, more)
    alone = rows(graph.x).to_dense().index_copy(0, setting.observed, near.to_dense())
    linked = alone.index_copy(0, setting.unseen, multi_hop(graph.x, graph.edge_index, hops).to_dense()[setting.unseen])
    return Inputs(near, compact(linked), compact(alone), more)


def checked_hops(hops: int = 2, score: str = "cosine", reach: int = 2) -> tuple[int, str, int]:
    """Check the options of `with_hops`; ValueError names what is out of range.

    >>> checked_hops(score="cosin")
    Traceback (most recent call last):
    ValueError: score is 'cosine' or 'jacobian', not 'cosin'
    """
    if score not in SCORES:
        raise ValueError(f"score is 'cosine' or 'jacobian', not {score!r}")
    return whole("hops", hops), score, whole("reach", reach)


def multi_hop(x: Matrix, edge_index: Tensor, hops: int) -> Tensor:
    r"""Mean of the features over several hops, `(N, F)`, computed once before training.

    $$ \tilde x = \frac{1}{P + 1} \sum_{p = 0}^{P} \tilde A^p x, \qquad \tilde A = D^{-1/2} (A + I) D^{-1/2} $$

    A node without edges keeps its features. Sparse features are made dense, and the result is sparse again if few of
    its entries differ from 0.

    Args:
        x: features `(N, F)`.
        edge_index: `(2, E)`; self-loops do not count, every node has one.
        hops: P; 0 leaves the features.

    Raises:
        ValueError: `hops` is no number from 0.

    >>> multi_hop(torch.tensor([[2.0], [0.0], [5.0]]), torch.tensor([[0, 1], [1, 0]]), 1).T  # a pair, and one alone
    tensor([[1.5000, 0.5000, 5.0000]])
    """
    hops = whole("hops", hops)
    mean = total = rows(x).to_dense()
    hop = smoother(*by_target(drop_self_loops(edge_index), len(total)), total.dtype)
    for _ in range(hops):
        mean = hop(mean)
        total = total + mean
    return compact(total / (hops + 1))


def influence(x: Matrix, edge_index: Tensor, score: str = "cosine", reach: int = 2) -> Tensor:
    r"""How much each node influences the others by way of the edges, `(N,)`, at most 1, without a network.

    With the propagation $\tilde A$ of `multi_hop`, k hops and $\hat v = v / \|v\|$,

    $$ \text{cosine:} \quad I_i \propto \sum_j \frac{s_{ij} - \min s}{\max s - \min s}, \quad
         s_{ij} = \hat x_i \cdot \widehat{(\tilde A^k x)_j}; \qquad
       \text{jacobian:} \quad I_i \propto \sum_j \frac{\partial (\tilde A^k x)_j}{\partial x_i}
         = \sum_j (\tilde A^k)_{ji} $$

    and the greatest I is 1. The cosine is the published one: node i counts where the features of many nodes, after k
    hops, look like its own. Minimum and maximum are over all pairs, of which a block of rows is held at a time: the
    cost grows with the square of the number of nodes. The second form is our own, and what the first stands for: how
    far a change of $x_i$ moves all nodes. It grows with the number of walks of k steps that leave the node, and costs
    k products with the edges.

    Args:
        x: features `(N, F)`.
        edge_index: `(2, E)`; self-loops do not count, every node has one.
        score: `cosine` or `jacobian`.
        reach: k.

    Raises:
        ValueError: there is no such score, or `reach` is no number from 0.

    Paper: Eskandari et al., "InfGraND: An Influence-Guided GNN-to-MLP Knowledge Distillation", TMLR 2026, with k = 2.
    In its code the graph has a second self-loop, and with nodes held out the minimum is over these, too; here they are
    unknown.

    >>> star = torch.tensor([[0, 1, 0, 2, 0, 3], [1, 0, 2, 0, 3, 0]])
    >>> influence(torch.eye(4), star, "jacobian", 1)  # the middle of a star, and its ends
    tensor([1.0000, 0.6512, 0.6512, 0.6512])
    """
    _, score, reach = checked_hops(0, score, reach)
    nodes = x.shape[0]
    hop = smoother(*by_target(drop_self_loops(edge_index), nodes))
    if score == "jacobian":
        with torch.enable_grad():
            moved = start = torch.ones(nodes, 1, requires_grad=True)
            for _ in range(reach):
                moved = hop(moved)
            total = torch.autograd.grad(moved.sum(), start)[0].flatten() if reach else torch.ones(nodes)
    else:
        total = _cosines(rows(x).to_dense().float(), hop, reach)
    top = total.max() if nodes else torch.ones(())
    return total / top if top > 0 else torch.ones(nodes)


def _cosines(x: Tensor, hop: Callable[[Tensor], Tensor], reach: int) -> Tensor:
    """Sums over each row of the scaled similarities; all alike where they do not differ."""
    moved = x
    for _ in range(reach):
        moved = hop(moved)
    own, theirs = unit(x, 1), unit(moved, 1)
    least, most = torch.inf, -torch.inf
    for part in own.split(_ROWS):
        low, high = (part @ theirs.T).aminmax()
        least, most = min(least, low.item()), max(most, high.item())
    if not most > least:
        return torch.ones(len(x))
    return ((own.double() @ theirs.double().sum(0) - len(x) * least) / (most - least)).clamp_min(0).to(x.dtype)
