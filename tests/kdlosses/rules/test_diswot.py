from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.rules import diswot

Y = torch.arange(12) % 3


def made(seed: int, width: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(12, width, generator=generator, dtype=torch.float64),
        torch.randn(12, classes, generator=generator, dtype=torch.float64),
    )


def by_numpy(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> float:
    alike, semantic = [], []
    for features, logits in (student, teacher):
        h = features.numpy()
        gram = h @ h.T
        alike.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
        w = torch.zeros(logits.shape[1], features.shape[1], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits + features @ w.T, Y), w)
        a = (gradient @ gradient.T).numpy()
        semantic.append(a / np.linalg.norm(a, axis=1, keepdims=True))
    return -((alike[0] - alike[1]) ** 2).sum() / 144 - ((semantic[0] - semantic[1]) ** 2).mean()


def test_the_formula_with_the_classifier_s_gradient_by_autograd() -> None:
    student, teacher = made(0, 5), made(1, 8)
    assert diswot(student, teacher, Y).item() == pytest.approx(by_numpy(student, teacher), rel=1e-9)


def test_the_teacher_itself_has_the_best_score() -> None:
    teacher = made(1, 8)
    assert diswot(teacher, teacher, Y).item() == pytest.approx(0, abs=1e-12)
    assert max(diswot(made(seed, 8), teacher, Y).item() for seed in range(2, 8)) < -0.1


def test_scale_and_rotation_of_the_features_mean_nothing() -> None:
    (h, z), teacher = made(0, 5), made(1, 8)
    turn = torch.linalg.qr(made(3, 5)[0].T @ made(4, 5)[0]).Q
    torch.testing.assert_close(diswot((3 * h @ turn, z), teacher, Y), diswot((h, z), teacher, Y))


def test_samples_without_a_label_count_for_the_first_term_alone() -> None:
    student, teacher = made(0, 5), made(1, 8)
    none = torch.full_like(Y, -1)
    only_first = diswot(student, teacher, none)
    assert only_first.isfinite()
    assert only_first > diswot(student, teacher, Y)
    with pytest.raises(ValueError, match="the student has 4 classes, the teacher 3"):
        diswot(made(0, 5, classes=4), teacher, Y)


def test_a_position_of_a_map_is_a_sample() -> None:
    student, teacher = made(0, 5), made(1, 8)
    maps = [tuple(each.view(3, 2, 2, -1).movedim(-1, 1) for each in pair) for pair in (student, teacher)]
    counts = torch.arange(12) % 4 != 0
    torch.testing.assert_close(diswot(*maps, Y.view(3, 2, 2)), diswot(student, teacher, Y))
    of_some = diswot(*maps, Y.view(3, 2, 2), weight=counts.view(3, 2, 2))
    torch.testing.assert_close(of_some, diswot(student, teacher, Y, weight=counts))
    assert of_some != diswot(student, teacher, Y)
    with pytest.raises(ValueError, match="a head of one sigmoid has one"):
        diswot(made(0, 5, classes=1), made(1, 5, classes=1), torch.zeros(12))
