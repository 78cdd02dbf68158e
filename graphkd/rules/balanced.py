"""Assign nodes to clusters of equal size."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def balanced(logits: Tensor, tau: float = 0.05, steps: int = 3) -> Tensor:
    r"""Soft assignment of nodes to clusters, each of which gets as many: what they learn without a label.

    $Q \propto \exp(z / \tau)$ with, `steps` times, its columns scaled to sum to $N / C$, then its rows to 1: at the
    end a row is the distribution of a node. Without the columns all nodes may be of one cluster.

    Args:
        logits: `(N, C)`, of N nodes and C clusters.
        tau: temperature; small ones assign each node to one cluster.
        steps: scalings of columns and rows (Sinkhorn, Knopp).

    Returns:
        probabilities `(N, C)`; no gradient flows into them.

    Paper: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020.

    >>> z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])  # one cluster, by the logits alone
    >>> balanced(z, tau=1.0, steps=20).argmax(1)
    tensor([0, 0, 1, 1])
    """
    log_q = logits.double() / tau
    for _ in range(steps):
        log_q = log_q - log_q.logsumexp(0) + math.log(len(log_q) / log_q.shape[1])
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp().to(logits.dtype)
