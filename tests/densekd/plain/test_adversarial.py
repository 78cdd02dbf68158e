"""MTARD on pixels: who is asked about which images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densekd.plain.adversarial import AdversarialDistillation

IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))


def sure(seed: int) -> nn.Sequential:
    """One whose answers change with its input."""
    model = net(seed)
    model[3].weight.data *= 10
    return model


def kl(teacher: Tensor, student: Tensor, weight: np.ndarray | float = 1.0) -> float:
    p, q = (np.asarray(z.detach().double().log_softmax(1)) for z in (teacher, student))
    each = (np.exp(p) * (p - q)).sum(1)
    return float((weight * each).sum() / (weight * np.ones_like(each)).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_the_robust_teacher_is_asked_about_the_attacked_images(weighted: bool) -> None:
    """The formula once more, in float64, from the attacked images that the student is shown."""
    student, natural, robust = sure(0).eval(), sure(1), sure(2)
    shown: list[Tensor] = []
    student.register_forward_hook(lambda module, args, out: shown.append(args[0].detach()))
    weight = (torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(1)) > 0.5).float() if weighted else None
    counts = 1.0 if weight is None else weight.double().numpy()
    options: dict[str, Any] = dict(radius=0.1, step=0.04, steps=4)
    output, losses = AdversarialDistillation(student, natural, robust, **options)(IMAGES, weight)
    moved = shown[-1]
    torch.testing.assert_close(output, student(IMAGES))
    assert 0.09 < (moved - IMAGES).abs().max() <= 0.1 + 1e-6
    expected = [kl(natural(IMAGES), output, counts), kl(robust(moved), student(moved), counts)]
    assert losses["mtard"].item() == pytest.approx(np.mean(expected), rel=1e-4)
    _, unasked = AdversarialDistillation(student, natural, robust, ask=False, **options)(IMAGES, weight)
    assert abs(unasked["mtard"].item() - np.mean(expected)) > 1e-3
    assert kl(robust(IMAGES), student(moved), counts) > kl(robust(IMAGES), output, counts) + 0.01


def test_the_student_alone_learns_and_keeps_its_mode() -> None:
    student, natural, robust = net(0), net(1), net(2)
    distillation = AdversarialDistillation(student, natural, robust, steps=2).train()
    assert student.training
    assert not natural.training
    _, losses = distillation(IMAGES)
    losses["mtard"].backward()
    assert student.training
    assert all(each.grad is not None for each in student.parameters())
    assert all(each.grad is None for model in (natural, robust) for each in model.parameters())
    assert {name.partition(".")[0] for name, _ in distillation.named_parameters()} == {"student"}
    assert distillation.double().teachers["robust"].model[0].weight.dtype == torch.float64


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="mtard: attack is 'eval' or 'train'"):
        AdversarialDistillation(net(0), net(1), attack="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius, step, steps and noise are not negative"):
        AdversarialDistillation(net(0), net(1), radius=-1.0)
