from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kdlosses


def test_the_factor_falls_at_each_milestone() -> None:
    s, t = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    loss = kdlosses.build("milestones")
    values = [loss(s, t, progress=epoch / 300).item() for epoch in range(301)]
    passed = np.searchsorted([215, 260, 285], np.arange(301), side="right")
    np.testing.assert_allclose(values, 0.1**passed * kdlosses.kl(s, t).item(), rtol=1e-12)


def test_a_gamma_of_zero_is_until() -> None:
    s, t = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    off = kdlosses.build(dict(type="milestones", at=(0.4,), gamma=0.0))
    until = kdlosses.build(dict(type="until", stop=0.4))
    for progress in (0.0, 0.39, 0.4, 1.0):
        assert off(s, t, progress=progress) == until(s, t, progress=progress)
        assert off.active(progress=progress) == until.active(progress=progress)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(at=()), "in rising order"),
        (dict(at=(0.8, 0.5)), r"in rising order, got \(0.8, 0.5\)"),
        (dict(at=(0.5, 0.5)), "in rising order"),
        (dict(at=(30, 60)), "shares of the training"),
        (dict(at=(0.0,)), "shares of the training"),
        (dict(gamma=-1.0), "gamma must be at least 0"),
    ],
)
def test_what_makes_no_milestones_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kdlosses.build(dict(type="milestones", **options))
