"""Rows of a feature or logit matrix: a tensor, an array in memory or on disk, shards, or a sparse matrix.

Features of citation and co-author graphs are 95 to 99.8 % zeros. Kept as CSR, the first linear layer costs one product
per stored entry, and PyTorch's own `linear` takes such an input as it is.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphkd.sparse.shards import Shards

if TYPE_CHECKING:
    from scipy.sparse import csr_array, csr_matrix

Matrix: TypeAlias = "Tensor | np.ndarray | Shards | csr_matrix | csr_array"

SPARSE_BELOW = 0.1
"""Share of non-zeros under which `compact` chooses CSR; above, dense products are faster."""


def rows(matrix: Matrix, index: Tensor | slice = slice(None)) -> Tensor:
    """Rows of a `(N, F)` matrix as a tensor: dense, or sparse CSR if the matrix is.

    Only the selected rows are read, so that a memory-mapped array stays on disk.

    >>> import scipy.sparse
    >>> rows(scipy.sparse.eye(3, dtype="f4", format="csr"), torch.tensor([2, 0])).to_dense()
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if isinstance(matrix, Tensor):
        if matrix.layout is not torch.sparse_csr:
            return matrix[index]
        crow, column, value = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    elif isinstance(matrix, np.ndarray | Shards):
        # A read-only map would make PyTorch warn; indexing by a tensor copies the rows anyway.
        taken = matrix[index] if isinstance(index, slice) else matrix[index.numpy()]
        return torch.from_numpy(taken if taken.flags.writeable else taken.copy())
    else:
        crow, column, value = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    if not isinstance(index, slice):
        first = crow[index]
        count = crow[index + 1] - first  # of these rows alone: one row must not cost as much as the matrix has rows
        start = torch.cat([count.new_zeros(1), count.cumsum(0)])
        taken = torch.arange(int(start[-1])) + (first - start[:-1]).repeat_interleave(count)
        crow, column, value = start, column[taken], value[taken]
    elif index != slice(None):
        raise ValueError(f"rows of a sparse matrix are taken by an index tensor, not by {index}")
    return csr(crow.long(), column.long(), value, matrix.shape[1])


def compact(matrix: Tensor) -> Tensor:
    """Convert a `(N, F)` matrix to CSR if few entries differ from 0, else to dense."""
    if matrix.layout is torch.strided and matrix.count_nonzero() < SPARSE_BELOW * matrix.numel():
        row, column = matrix.nonzero(as_tuple=True)
        crow = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=len(matrix)).cumsum(0)])
        return csr(crow, column, matrix[row, column], matrix.shape[1])
    return matrix


def csr(crow: Tensor, column: Tensor, value: Tensor, width: int) -> Tensor:
    """Build a sparse CSR tensor from its three arrays and its number of columns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(crow, column, value, (len(crow) - 1, width), check_invariants=False)


def to_scipy(x: Tensor) -> csr_matrix:
    """A sparse CSR tensor as a scipy matrix; nothing is copied."""
    from scipy.sparse import csr_matrix

    return csr_matrix((x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy()), shape=tuple(x.shape))


def drop_features(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout of features; of a sparse matrix only stored entries are drawn."""
    if x.layout is torch.sparse_csr:
        return csr(x.crow_indices(), x.col_indices(), F.dropout(x.values(), share, training), x.shape[1])
    return F.dropout(x, share, training)


def masked(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a random share of features to 0; of a sparse matrix only stored entries are drawn."""
    if share == 0:
        return x
    if x.layout is torch.sparse_csr:
        kept = torch.rand(x.values().shape, generator=generator) >= share
        return csr(x.crow_indices(), x.col_indices(), x.values() * kept, x.shape[1])
    return x * (torch.rand(x.shape, generator=generator) >= share)
