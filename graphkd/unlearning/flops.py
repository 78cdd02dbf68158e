"""Floating-point operations of what runs, with sparse products counted by their entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def _entries(matrix: Tensor) -> int:
    return matrix.numel() if matrix.layout is torch.strided else int(matrix._nnz())


def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * min(_entries(a) * b.shape[1], _entries(b) * a.shape[0])


def _product_and_sum(bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return _product(a, b)


for _function in (_product, _product_and_sum):
    _function._get_raw = True  # type: ignore[union-attr]  # FlopCounterMode hands it tensors, not shapes
_COUNTED: dict[Any, Callable[..., int]] = {torch.ops.aten.mm: _product, torch.ops.aten.addmm: _product_and_sum}


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count the operations of matrix products inside; sums of messages and what is done entry by entry cost nothing.

    A sparse matrix counts by its entries, where `torch.utils.flop_counter` alone would count its zeros, too.

    >>> with counted() as flops:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4), torch.eye(3).to_sparse_csr() @ torch.ones(3, 4)
    >>> flops() == 2 * 2 * 3 * 4 + 2 * 3 * 4
    True
    """
    with FlopCounterMode(display=False, custom_mapping=_COUNTED) as counter:
        yield counter.get_total_flops
