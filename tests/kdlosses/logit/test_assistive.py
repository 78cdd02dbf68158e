from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from torch import Tensor

from kdlosses import assistive, build

CONTRACT = LossContract("assistive", options=dict(truth="first"))

PHI = ((1.9, -0.45), (1.8, -0.4))


def reflected(s: np.ndarray, g: np.ndarray, teachers: list[np.ndarray], share: tuple[float, float]) -> np.ndarray:
    """The paper's own construction, coordinate by coordinate: each teacher reflected to the student's side."""
    bound = np.abs(teachers[-1] - g)
    e = s - g
    total = np.where(np.abs(e) <= bound, 3 * np.abs(e), e**2 + 3 * bound - bound**2)
    for t, (plus, minus), factor in zip(teachers, PHI, share):
        x = g + np.sign(e) * np.abs(t - g)
        b = g + 0.15 * (x - g)
        pull = np.sign(s - x) * np.sign(x - g) > 0
        push = np.sign(x - s) * np.sign(s - b) >= 0
        total = total + factor * np.where(pull, plus, np.where(push, minus, 0)) * np.abs(x - s)
    return total


def stack(*parts: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate(parts, axis=1))


@pytest.mark.parametrize("share", [(1.0, 1.0), (0.1, 0.3)])
def test_formula(share: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    s, g, tough, tolerant = rng.normal(size=(4, 50, 6))
    s[0], tough[1], s[2] = g[0], g[1], tolerant[2]  # at the truth, a teacher without error, exactly at a teacher
    w = rng.random(50)
    stacked = stack(g, tough, tolerant)
    value = assistive(torch.from_numpy(s), stacked, "first", share=share, weight=torch.from_numpy(w))
    expected = np.average(reflected(s, g, [tough, tolerant], share).mean(1), weights=w)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-10)


def test_zero_at_the_truth_and_the_same_on_both_sides() -> None:
    s, g, tough, tolerant = torch.randn(4, 30, 3)
    stacked = torch.cat([g, tough, tolerant], dim=1)
    assert assistive(g, stacked, "first") == 0
    torch.testing.assert_close(assistive(2 * g - s, stacked, "first"), assistive(s, stacked, "first"))
    other_side = torch.cat([g, 2 * g - tough, tolerant], dim=1)
    torch.testing.assert_close(assistive(s, other_side, "first"), assistive(s, stacked, "first"))


def test_main_term_is_continuous_at_the_tolerant_error() -> None:
    stacked = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    beside = torch.tensor([2 - 1e-9, 2 + 1e-9], dtype=torch.float64)
    at = [assistive(e.view(1, 1), stacked, "first", share=(0, 0)) for e in beside]
    torch.testing.assert_close(at[0], at[1])


def test_least_value_lies_beside_the_truth() -> None:
    e = torch.linspace(0, 3, 3001, dtype=torch.float64)
    stacked = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64)
    values = [assistive(x.view(1, 1), stacked, "first").item() for x in e]
    assert e[int(np.argmin(values))] == 0.15
    np.testing.assert_allclose(min(values), -0.2725)


def test_without_teachers_it_is_three_times_the_absolute_error() -> None:
    s, g = torch.randn(2, 5, 4, 3, 3)
    torch.testing.assert_close(assistive(s, g, truth="first"), 3 * (s - g).abs().mean())


def test_one_teacher_is_not_taken_for_the_truth() -> None:
    with pytest.raises(TypeError, match="requires the option 'truth'"):
        build("assistive")
    with pytest.raises(TypeError, match="truth"):
        assistive(torch.zeros(5, 4), torch.zeros(5, 12))
    with pytest.raises(ValueError, match="truth must be 'first'"):
        assistive(torch.zeros(5, 4), torch.zeros(5, 12), truth="labels")


def test_another_number_of_teachers_is_named() -> None:
    with pytest.raises(ValueError, match=r"needs 3 times the student's 4 channels .* got 8"):
        assistive(torch.zeros(5, 4), torch.zeros(5, 8), "first")


@pytest.mark.parametrize("options", [dict(within=(-0.4,)), dict(share=(0.1,)), dict(share=(0.1, 0.1, 0.1))])
def test_a_teacher_without_its_numbers_is_not_dropped(options: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="beyond, within and share need a number for each teacher, got 2, "):
        assistive(torch.zeros(5, 4), torch.zeros(5, 12), "first", **options)
