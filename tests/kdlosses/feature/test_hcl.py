from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import hcl, mse

CONTRACT = LossContract("hcl", per_sample="averages over the cells of a map, which nodes do not have")


def pooled(x: np.ndarray, level: int) -> np.ndarray:
    """Average over the cells of adaptive pooling, which overlap where the side is no multiple of the level."""
    h, w = x.shape[2:]

    def bounds(i: int, size: int) -> slice:
        return slice(i * size // level, -(-(i + 1) * size // level))

    cells = [[x[:, :, bounds(i, h), bounds(j, w)].mean((2, 3)) for j in range(level)] for i in range(level)]
    return np.moveaxis(np.array(cells), (0, 1), (2, 3))


@pytest.mark.parametrize(
    ("shape", "levels"), [((2, 3, 9, 7), (4, 2, 1)), ((2, 3, 4, 4), (2, 1)), ((2, 3, 2, 2), (1,)), ((2, 3, 1, 1), ())]
)
def test_formula(shape: tuple[int, ...], levels: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=shape), rng.normal(size=shape)
    total, norm = np.mean((s - t) ** 2), 1.0
    for k, level in enumerate(levels, start=1):
        total += 2.0**-k * np.mean((pooled(s, level) - pooled(t, level)) ** 2)
        norm += 2.0**-k
    np.testing.assert_allclose(hcl(*map(torch.from_numpy, (s, t))).item(), total / norm, rtol=1e-10)


def test_weighted_cells_average_what_they_have() -> None:
    s, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    weight = torch.zeros(1, 4, 4)
    weight[0, :2, :2] = 1  # one cell of level 2 is full, the others are empty
    inside = [x[:, :, :2, :2] for x in (s, t)]
    cell = mse(*(x.mean((2, 3)) for x in inside))
    expected = (mse(*inside) + cell / 2 + cell / 4) / 1.75
    torch.testing.assert_close(hcl(s, t, weight=weight), expected)


def test_common_shift_changes_nothing() -> None:
    s, t, shift = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(hcl(s + shift, t + shift), hcl(s, t))


def test_nodes_and_single_positions_are_mse() -> None:
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    torch.testing.assert_close(hcl(s, t), mse(s, t))
    torch.testing.assert_close(hcl(s[:, :, None, None], t[:, :, None, None]), mse(s, t))


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 8, 8, 8)])
def test_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    d, one = torch.randn(shape), torch.ones(shape[:1] + shape[2:])
    torch.testing.assert_close(hcl(d, torch.zeros(shape)), hcl(d, torch.zeros(shape), weight=one))


def test_more_axes_raise() -> None:
    with pytest.raises(ValueError, match="three axes of space"):
        hcl(torch.randn(1, 1, 2, 2, 2, 2), torch.randn(1, 1, 2, 2, 2, 2))
