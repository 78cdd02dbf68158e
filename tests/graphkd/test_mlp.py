"""The student's network: what sparse features must not change."""

from __future__ import annotations

import pytest
import torch

from graphkd.networks.mlp import MLP


@pytest.mark.parametrize("rows", [0, 1, 3, 400])  # few take the columns that they have, many PyTorch's product
@pytest.mark.parametrize("norm", [None, "layer"])
def test_sparse_rows_give_what_dense_rows_give(rows: int, norm: str | None) -> None:
    model = MLP(500, [16], 4, norm=norm).double()  # type: ignore[arg-type]
    x = torch.rand(rows, 500, dtype=torch.float64) * (torch.rand(rows, 500) < 0.02)
    found = []
    for given in (x, x.to_sparse_csr()):
        model.zero_grad()
        out = model(given)
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(found[0], found[1])
