from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge

from kdlosses.rules import selfdistill_weight


def test_it_is_the_best_of_a_grid_of_kernel_ridge_fits() -> None:
    """The paper's case: each point of the grid is a fit of its own to the mixed targets."""
    x, y = load_diabetes(return_X_y=True)
    y = ((y - y.mean()) / y.std())[:, None]
    fit, held = slice(0, 150), slice(150, None)

    def fitted(targets: np.ndarray, alpha: float = 0.05) -> KernelRidge:
        return KernelRidge(alpha=alpha, kernel="rbf", gamma=20.0).fit(x[fit], targets)

    teacher = fitted(y[fit], alpha=0.5).predict(x[fit])
    f, g = (torch.from_numpy(fitted(targets).predict(x[held])) for targets in (y[fit], teacher))
    a = selfdistill_weight(torch.from_numpy(y[held]), f, g).item()
    grid = np.linspace(-0.5, 1.5, 401)
    errors = [((y[held] - fitted(b * y[fit] + (1 - b) * teacher).predict(x[held])) ** 2).mean() for b in grid]
    best = grid[np.argmin(errors)]
    assert a == pytest.approx(best, abs=0.005)
    assert -0.5 < best < 1.5
    assert abs(best - 0.5) > 0.05


def test_ends_and_the_undefined_middle() -> None:
    y, other = torch.rand(6, 3), torch.rand(6, 3)
    assert selfdistill_weight(y, y, other).item() == pytest.approx(1, abs=1e-6)
    assert selfdistill_weight(y, other, y).item() == pytest.approx(0, abs=1e-6)
    assert selfdistill_weight(y, other, other) == 0.5


def test_it_is_not_clipped() -> None:
    y = torch.tensor([[1.0, 0.0]])
    assert selfdistill_weight(y, torch.tensor([[0.8, 0.2]]), torch.tensor([[0.6, 0.4]])).item() == pytest.approx(2.0)


def test_weights_are_multiplicities_on_maps_too() -> None:
    y, f, g = torch.rand(3, 2, 3, 4, 4, dtype=torch.float64).unbind(0)
    weight = torch.randint(0, 3, (2, 4, 4))
    y1, f1, g1 = (each.movedim(1, -1).flatten(0, -2).repeat_interleave(weight.flatten(), 0) for each in (y, f, g))
    torch.testing.assert_close(selfdistill_weight(y, f, g, weight), selfdistill_weight(y1, f1, g1))
