"""Cosines between the cells of a map against NumPy, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekd.losses import cell_similarity
from densekd.losses.cell_similarity import similarity


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, 6, 9, dtype=torch.float64), torch.randn(2, 7, 6, 9, dtype=torch.float64)


def cosines(maps: torch.Tensor) -> np.ndarray:
    n, channels = maps.shape[:2]
    cells = maps.numpy().reshape(n, channels, 3, 2, 3, 3).mean((3, 5)).reshape(n, channels, 9)
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)
    return np.einsum("ncr,ncq->nrq", cells, cells)


def test_formula() -> None:
    s, t = maps()
    expected = np.square(cosines(s) - cosines(t)).mean()
    np.testing.assert_allclose(cell_similarity(s, t, cells=3).item(), expected)


def test_matrices_are_symmetric_with_a_unit_diagonal() -> None:
    found = similarity(maps()[0], (3, 3))
    assert found.shape == (2, 9, 9)
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), torch.ones(2, 9, dtype=torch.float64))
    assert found.abs().max() <= 1 + 1e-12


def test_scale_rotation_and_channels_do_not_matter() -> None:
    s, t = maps()
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    turned = 3 * torch.einsum("dc,nchw->ndhw", rotation, t)
    torch.testing.assert_close(cell_similarity(s, turned), cell_similarity(s, t))
    assert cell_similarity(turned, t) < 1e-20


def test_cells_that_do_not_count() -> None:
    s, t = maps()
    weight = torch.ones(2, 6, 9)
    weight[:, :, 6:] = 0  # a column of cells
    kept = [cosines(x)[:, [0, 1, 3, 4, 6, 7]][:, :, [0, 1, 3, 4, 6, 7]] for x in (s, t)]
    value = cell_similarity(s, t, cells=3, weight=weight).item()
    np.testing.assert_allclose(value, np.square(kept[0] - kept[1]).mean())


def test_number_of_cells() -> None:
    s, t = maps()
    assert cell_similarity(s, t, cells=99) == cell_similarity(s, t, cells=9)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        cell_similarity(s, t, cells=0)
