from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    blocks = zip(*(x.split(_size(rows[0], columns), dim=1) for x in rows), strict=True)
    if n * max(1, sets * columns) <= KEPT:
        return torch.cat([body(*block) for block in blocks], dim=1)
    return torch.cat(
        [checkpoint(body, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks], dim=1
    )


def _size(rows: Tensor, columns: int) -> int:
    """Rows in a block, where each is paired with `columns` others."""
    return max(1, (BLOCK if rows.is_cpu else KEPT) // max(1, len(rows) * columns))


def sum_by_rows(
    body: Callable[[Tensor, Tensor, Tensor], Tensor],
    share: Tensor,
    student: Tensor,
    teacher: Tensor,
    keys: Tensor,
    columns: int,
) -> Tensor:
    r"""The sum $\sum_i w_i v_i$ of `body(student, teacher, keys)`, in blocks of rows, with its gradient.

    The gradient is taken block by block in the forward pass: nothing is kept for the backward pass but the gradient
    itself, and nothing is computed twice. Where the teacher has a gradient, or torch compiles, it is `by_rows`.

    Args:
        body: maps rows of student and teacher `(sets, n, C)` and the keys to a value a row, `(sets, n)`.
        share: $w_i$, `(sets, n)`; a row of 0 does not count, whatever its value.
        student: `(sets, N, C_s)`.
        teacher: `(sets, N, C_t)`.
        keys: what each row is paired with.
        columns: how many those are.

    >>> x = torch.randn(1, 5, 3)
    >>> sum_by_rows(lambda s, t, keys: (s @ keys).logsumexp(2), torch.ones(1, 5), x, x, x.mT, columns=5).shape
    torch.Size([])
    """
    learns = torch.is_grad_enabled() and (student.requires_grad or keys.requires_grad)
    if not learns or teacher.requires_grad or torch.compiler.is_compiling():
        values = by_rows(lambda s, t: body(s, t, keys), student, teacher, columns=columns)
        return (torch.where(share > 0, values, 0) * share).sum()
    value: Tensor = _Sum.apply(body, share, student, teacher, keys, columns)
    return value


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, body: Any, share: Tensor, student: Tensor, teacher: Tensor, keys: Tensor, columns: int
    ) -> Tensor:
        size = _size(student, columns)
        pairs = keys.detach().requires_grad_(ctx.needs_input_grad[4])
        total, of_rows, of_keys = share.new_zeros(()), torch.empty_like(student), None
        for start in range(0, student.shape[1], size):
            part = slice(start, start + size)
            rows = student[:, part].detach().requires_grad_()
            with torch.enable_grad():
                values = body(rows, teacher[:, part], pairs)
                value = (torch.where(share[:, part] > 0, values, 0) * share[:, part]).sum()
                asked = [rows, pairs] if pairs.requires_grad else [rows]
                found = torch.autograd.grad(value, asked)
            total += value.detach()
            of_rows[:, part] = found[0]
            if pairs.requires_grad:
                of_keys = found[1] if of_keys is None else of_keys.add_(found[1])
        ctx.save_for_backward(of_rows, of_keys)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_rows, of_keys = ctx.saved_tensors
        return None, None, upstream * of_rows, None, None if of_keys is None else upstream * of_keys, None
