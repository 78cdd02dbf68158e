from __future__ import annotations

import torch
from torch import Tensor


def stratified(groups: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draw the same share of every group, at least one of each.

    Args:
        groups: `(n,)`, whole numbers from 0: classes, say. All the same number: a plain random subset.
        share: above 0, at most 1; of a group of m, `share * m` to the nearest whole number. 1 draws nothing.
        generator: draws.

    Returns:
        mask `(n,)` of what was drawn.

    Raises:
        ValueError: `share` is out of range.

    >>> mask = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 0.5, torch.Generator())
    >>> mask[:4].sum().item(), mask[4:].sum().item()
    (2, 1)
    """
    if not 0 < share <= 1:
        raise ValueError(f"stratified: share must lie above 0 and be at most 1, got {share}")
    if share == 1 or not len(groups):
        return torch.ones_like(groups, dtype=torch.bool)
    order = torch.randperm(len(groups), generator=generator)
    order = order[groups[order].argsort(stable=True)]  # group by group, at random within each
    size = torch.bincount(groups)
    rank = torch.arange(len(groups)) - (size.cumsum(0) - size)[groups[order]]
    quota = (share * size).round().clamp_min(1)
    return torch.zeros_like(groups, dtype=torch.bool).index_put((order,), rank < quota[groups[order]])
