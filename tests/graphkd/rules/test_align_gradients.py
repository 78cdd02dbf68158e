from __future__ import annotations

import numpy as np
import pytest
import torch

from graphkd.rules import align_gradients

SHAPES = [(3, 4), (3,), (2, 3, 5)]


def made(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def flat(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([each.numpy().ravel() for each in tensors])


@pytest.mark.parametrize("sign", [1, -1])
def test_only_what_opposes_is_taken_away(sign: int) -> None:
    main, noise = made(0), made(1)
    side = [sign * a + 0.1 * b for a, b in zip(main, noise)]
    found, g, g0 = flat(align_gradients(side, main)), flat(side), flat(main)
    if sign > 0:
        np.testing.assert_array_equal(found, g)
    else:
        np.testing.assert_allclose(found, g - g0 * (g @ g0) / (g0 @ g0))
        assert found @ g0 == pytest.approx(0, abs=1e-12)
        assert np.linalg.norm(found) < np.linalg.norm(g)


def test_no_main_gradient_changes_nothing() -> None:
    side = made(1)
    zero = [torch.zeros_like(each) for each in side]
    np.testing.assert_array_equal(flat(align_gradients(side, zero)), flat(side))
