from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import rsd_gram

CONTRACT = LossContract("rsd_gram", over_pairs=True)


@pytest.mark.parametrize(("channels", "others"), [(3, 5), (5, 3), (40, 5), (5, 40)])  # of points there are nine
def test_formula(channels: int, others: int) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(9, channels)), rng.normal(size=(9, others))
    weight = rng.integers(0, 3, 9).astype(float)
    squares = (s @ s.T - t @ t.T) ** 2
    one, other = torch.from_numpy(s), torch.from_numpy(t)
    np.testing.assert_allclose(rsd_gram(one, other).item(), squares.mean(), rtol=1e-10)
    expected = np.average(np.average(squares, 0, weight), 0, weight)
    np.testing.assert_allclose(rsd_gram(one, other, weight=torch.from_numpy(weight)).item(), expected, rtol=1e-10)


@pytest.mark.parametrize("points", [4, 12])  # fewer and more than channels
def test_rotation_changes_nothing_but_scale_and_translation_do(points: int) -> None:
    s, t = torch.randn(points, 5, dtype=torch.float64), torch.randn(points, 6, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(rsd_gram(s @ rotation, t), rsd_gram(s, t))
    torch.testing.assert_close(rsd_gram(s @ rotation, s), torch.zeros((), dtype=torch.float64))
    assert not torch.isclose(rsd_gram(2 * s, t), rsd_gram(s, t))
    assert not torch.isclose(rsd_gram(s + 1, t), rsd_gram(s, t))


def test_nothing_is_lost_where_student_and_teacher_are_close() -> None:
    teacher = 10 * torch.randn(500, 16)
    student = teacher + 1e-4 * torch.randn(500, 16)
    exact = rsd_gram(student.double(), teacher.double())
    torch.testing.assert_close(rsd_gram(student, teacher).double(), exact, rtol=1e-3, atol=0.0)


def test_many_points_cost_no_matrix_of_pairs() -> None:
    rng = np.random.default_rng(1)
    s, t = rng.normal(size=(200_000, 3)), rng.normal(size=(200_000, 2))  # 320 GB of pairs
    parts = np.linalg.norm(s.T @ s) ** 2 + np.linalg.norm(t.T @ t) ** 2 - 2 * np.linalg.norm(t.T @ s) ** 2
    value = rsd_gram(torch.from_numpy(s), torch.from_numpy(t)).item()
    np.testing.assert_allclose(value, parts / len(s) ** 2, rtol=1e-9)
