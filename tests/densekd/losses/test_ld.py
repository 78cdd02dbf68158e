"""Localisation distillation against a loop over positions, sides and bins, and what it does not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax

import kdlosses
from densekd.losses import ld

CONTRACT = LossContract("ld", options=dict(sides=1))


def pair(bins: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, 4 * bins, 3, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    return student, teacher


@pytest.mark.parametrize("tau", [1.0, 10.0])
def test_formula(tau: float) -> None:
    student, teacher = pair()
    weight = torch.rand(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight[0, 1] = 0
    total = 0.0
    for image in range(2):
        for y in range(3):
            for x in range(2):
                for side in range(4):
                    bins = slice(5 * side, 5 * side + 5)
                    log_q, log_p = (log_softmax(each[image, bins, y, x].numpy() / tau) for each in (student, teacher))
                    total += weight[image, y, x].item() * (np.exp(log_p) * (log_p - log_q)).sum() / 4
    expected = tau**2 * total / weight.sum().item()
    np.testing.assert_allclose(ld(student, teacher, tau=tau, weight=weight).item(), expected, rtol=1e-10)


def test_a_shift_of_all_bins_of_a_side_changes_nothing() -> None:
    student, teacher = pair()
    shift = torch.randn(2, 4, 1, 3, 2, dtype=torch.float64).expand(-1, -1, 5, -1, -1).flatten(1, 2)
    torch.testing.assert_close(ld(student + shift, teacher - shift), ld(student, teacher))
    other = student.clone()
    other[:, 4] += 1  # the last bin of the first side alone
    assert (ld(other, teacher) - ld(student, teacher)).abs() > 1e-3


def test_of_one_side_it_is_kl() -> None:
    student, teacher = pair()
    torch.testing.assert_close(ld(student, teacher, sides=1, tau=2.0), kdlosses.kl(student, teacher, tau=2.0))


@pytest.mark.parametrize("channels", [4, 18])
def test_channels_that_are_no_distributions(channels: int) -> None:
    with pytest.raises(ValueError, match=f"ld: {channels} channels are no distributions over two bins or more for 4"):
        ld(torch.zeros(1, channels, 2, 2), torch.zeros(1, channels, 2, 2))
