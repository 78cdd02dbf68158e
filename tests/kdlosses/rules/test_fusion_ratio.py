from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlosses.rules import FusionRatio

N, C = 12, 4


@pytest.fixture
def case() -> tuple[FusionRatio, Tensor, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student, teacher = torch.randn(N, C, dtype=torch.float64), torch.randn(N, C, dtype=torch.float64)
        means = torch.randn(C, C, dtype=torch.float64).softmax(1)
        return FusionRatio(C).double(), student, teacher, torch.arange(N) % C, means


def test_formula(case: tuple[FusionRatio, Tensor, Tensor, Tensor, Tensor]) -> None:
    ratio, student, teacher, labels, means = case

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    s, t, g, m = softmax(student.numpy()), softmax(teacher.numpy()), np.eye(C)[labels], means.numpy()[labels]
    u = np.concatenate([s, t, g, m, (m - s) ** 2, (g - s) ** 2, (t - s) ** 2, (t - g) ** 2, (m - g) ** 2], axis=1)
    for layer in ratio.net:
        if isinstance(layer, torch.nn.Linear):
            u = u @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        else:
            u = np.where(u > 0, u, 0.01 * u)
    np.testing.assert_allclose(ratio(student, teacher, labels, means).detach(), 1 / (1 + np.exp(-u[:, 0])), atol=1e-12)


def test_only_the_network_is_taught(case: tuple[FusionRatio, Tensor, Tensor, Tensor, Tensor]) -> None:
    ratio, student, teacher, labels, means = case
    student.requires_grad_()
    teacher.requires_grad_()
    ratio(student, teacher, labels, means).sum().backward()
    assert student.grad is None
    assert teacher.grad is None
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in ratio.parameters())


def test_each_sample_by_itself(case: tuple[FusionRatio, Tensor, Tensor, Tensor, Tensor]) -> None:
    ratio, student, teacher, labels, means = case
    a = ratio(student, teacher, labels, means)
    assert ((a > 0) & (a < 1)).all()
    assert a.std() > 1e-3
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ratio(student[order], teacher[order], labels[order], means), a[order])


def test_a_pixel_is_a_node(case: tuple[FusionRatio, Tensor, Tensor, Tensor, Tensor]) -> None:
    ratio, student, teacher, labels, means = case
    on_maps = [z.t().reshape(1, C, 3, 4) for z in (student, teacher)]
    found = ratio(*on_maps, labels.view(1, 3, 4), means)
    torch.testing.assert_close(found.flatten(), ratio(student, teacher, labels, means))
