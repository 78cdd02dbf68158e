from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import kl, rkl


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    each = tau**2 * rel_entr(softmax(s / tau, axis=1), softmax(t / tau, axis=1)).sum(1)
    value = rkl(*map(torch.from_numpy, (s, t)), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_is_the_other_direction_of_kl() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    torch.testing.assert_close(rkl(s, t), kl(t, s))
    assert not torch.isclose(rkl(s, t), rkl(t, s))


def test_seeks_a_mode_where_kl_covers_both() -> None:
    """On a teacher with two modes a student of one bump sits on one of them; under `kl` it stretches over both."""
    place = torch.arange(41.0)
    teacher = torch.logaddexp(-((place - 10) ** 2) / 8, -((place - 30) ** 2) / 8)[None]

    def spread_after(loss: object) -> float:
        centre, log_width = torch.tensor(12.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
        optimiser = torch.optim.Adam([centre, log_width], lr=0.1)
        for _ in range(300):
            optimiser.zero_grad()
            loss(-(((place - centre) / log_width.exp()) ** 2)[None] / 2, teacher).backward()  # type: ignore[operator]
            optimiser.step()
        return log_width.exp().item()

    assert spread_after(rkl) < 4 < 8 < spread_after(kl)
