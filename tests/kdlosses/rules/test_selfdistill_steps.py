from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF

from kdlosses.rules import selfdistill_steps, selfdistill_weight


def test_the_weight_of_each_step_is_the_best_of_a_grid() -> None:
    """Kernel ridge regression, where the closed form is exact."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (60, 1))
    y = np.sin(2 * x) + 0.5 * rng.normal(size=x.shape)
    held, part = slice(0, 20), slice(20, 60)

    def smooth(target: np.ndarray, rows: slice) -> np.ndarray:
        kernel = RBF(0.5)
        return kernel(x, x[rows]) @ np.linalg.solve(kernel(x[rows]) + 0.3 * np.eye(len(x[rows])), target[rows])

    def fit(teacher: np.ndarray | None, weight: float, whole: bool) -> np.ndarray:
        target = y if teacher is None else weight * y + (1 - weight) * teacher
        return smooth(target, slice(None) if whole else part)

    def compare(f: np.ndarray, g: np.ndarray) -> float:
        return selfdistill_weight(*(torch.from_numpy(each[held]) for each in (y, f, g))).item()

    _, found = selfdistill_steps(fit, compare, steps=3)
    teacher = fit(None, 1.0, True)
    for weight in found:
        grid = np.linspace(-3, 3, 601)
        errors = [((y - fit(teacher, a, False))[held] ** 2).sum() for a in grid]
        assert weight == pytest.approx(grid[int(np.argmin(errors))], abs=0.006)
        teacher = fit(teacher, min(max(weight, 0.0), 1.0), True)
    assert len({*found}) == 3


def test_given_weights_need_no_fits_to_compare() -> None:
    calls: list[tuple[float, bool]] = []

    def fit(teacher: float | None, weight: float, whole: bool) -> float:
        calls.append((weight, whole))
        return weight

    _, found = selfdistill_steps(fit, lambda f, g: 0.0, steps=2, weights=[0.2, 0.7])
    assert found == [0.2, 0.7]
    assert calls == [(1.0, True), (0.2, True), (0.7, True)]
    with pytest.raises(ValueError, match="selfdistill: steps count from 1, each with a weight"):
        selfdistill_steps(fit, lambda f, g: 0.0, steps=3, weights=[0.2])
    for wrong in (7.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="a weight of the labels lies in 0 to 1"):
            selfdistill_steps(fit, lambda f, g: 0.0, steps=1, weights=[wrong])
