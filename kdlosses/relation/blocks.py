from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 10_000_000
"""Pairs held at once: 40 MB a matrix in float32, which the C library hands back once freed; smaller ones pile up."""


def by_rows(body: Callable[..., Tensor], *rows: Tensor, columns: int) -> Tensor:
    """Compute `body(*rows)` in blocks of rows, so that memory grows with n and not with n squared.

    `body` maps rows `(sets, n, ...)` to a value a row, `(sets, n)`, and pairs each row with `columns` others. What it
    held in between is computed again in the backward pass. Few enough pairs are done in one go.

    >>> x = torch.randn(1, 5, 3)
    >>> by_rows(lambda rows: (rows @ x.mT).logsumexp(2), x, columns=5).shape
    torch.Size([1, 5])
    """
    sets, n = rows[0].shape[:2]
    size = max(1, BLOCK // max(1, sets * columns))
    if n <= size:
        return body(*rows)
    blocks = zip(*(x.split(size, dim=1) for x in rows), strict=True)
    return torch.cat(
        [checkpoint(body, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks], dim=1
    )
