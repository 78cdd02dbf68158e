from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 1_000_000
"""Pairs held at once on a CPU: 4 MB a matrix in float32 stay in its cache, 40 MB take twice the time."""
ELSEWHERE = 10
"""Times as many on other devices, where a block is a few calls whatever its size."""


def by_rows(body: Callable[..., Tensor], *rows: Tensor, columns: int) -> Tensor:
    """Compute `body(*rows)` in blocks of rows, so that memory grows with n and not with n squared.

    `body` maps rows `(sets, n, ...)` to a value a row, `(sets, n)`, and pairs each row with `columns` others. What it
    held in between is computed again in the backward pass. Few enough pairs are done in one go.

    >>> x = torch.randn(1, 5, 3)
    >>> by_rows(lambda rows: (rows @ x.mT).logsumexp(2), x, columns=5).shape
    torch.Size([1, 5])
    """
    sets, n = rows[0].shape[:2]
    pairs = BLOCK * (1 if rows[0].is_cpu else ELSEWHERE)
    size = max(1, pairs // max(1, sets * columns))
    if n <= size:
        return body(*rows)
    blocks = zip(*(x.split(size, dim=1) for x in rows), strict=True)
    return torch.cat(
        [checkpoint(body, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks], dim=1
    )
