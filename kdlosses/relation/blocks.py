from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 1_000_000
"""Pairs computed at once on a CPU: 4 MB a matrix in float32 stay in its cache, larger ones take twice the time."""
KEPT = 10_000_000
"""Pairs whose matrices, 40 MB each, are kept for the backward pass; those of more pairs are computed again there."""


def by_rows(body: Callable[..., Tensor], *rows: Tensor, columns: int) -> Tensor:
    """Compute `body(*rows)` in blocks of rows, so that memory grows with n and not with n squared.

    `body` maps rows `(sets, n, ...)` to a value a row, `(sets, n)`, and pairs each row with `columns` others. What it
    held in between is kept if the pairs are few, else computed again in the backward pass.

    >>> x = torch.randn(1, 5, 3)
    >>> by_rows(lambda rows: (rows @ x.mT).logsumexp(2), x, columns=5).shape
    torch.Size([1, 5])
    """
    sets, n = rows[0].shape[:2]
    pairs = max(1, sets * columns)  # of one row
    size = max(1, (BLOCK if rows[0].is_cpu else KEPT) // pairs)
    blocks = zip(*(x.split(size, dim=1) for x in rows), strict=True)
    if n * pairs <= KEPT:
        return torch.cat([body(*block) for block in blocks], dim=1)
    return torch.cat(
        [checkpoint(body, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks], dim=1
    )
