"""The loss between maps: standardised as NumPy does it, balanced, on the right pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from densekd.hub.lessons import Lesson, pairs


def maps(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_the_loss_in_numpy() -> None:
    student, teacher = maps((2, 3, 4, 6)), [7 + 3 * each for each in maps((2, 5, 4, 6), seed=1)]
    lesson = Lesson(student, teacher)
    others = [7 + 3 * each for each in maps((4, 5, 4, 6), seed=2)]
    lesson.measure([[others[0][:1]], [others[0][1:]]])  # in batches of unlike size
    values = others[0].double().numpy().transpose(1, 0, 2, 3).reshape(5, -1)
    mean, std = values.mean(1), np.sqrt(values.var(1).mean())
    target = (teacher[0].double().numpy() - mean.reshape(5, 1, 1)) / std
    weight, bias = (value.detach().double().numpy() for value in (lesson.heads[0].weight, lesson.heads[0].bias))
    found = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0], student[0].double().numpy()) + bias.reshape(5, 1, 1)
    assert lesson(student, teacher).item() == pytest.approx(((found - target) ** 2).mean(), rel=1e-5)


def test_neither_scale_nor_shift_nor_rotation_of_a_teacher_counts() -> None:
    student, teacher = maps((2, 3, 4, 4)), maps((2, 6, 4, 4), seed=1)
    rotation = torch.linalg.qr(maps((6, 6), seed=2)[0])[0]

    def loss(change: Tensor, shift: float) -> float:
        changed = [torch.einsum("oi,bihw->bohw", change, teacher[0]) + shift]
        lesson = Lesson(student, changed)
        lesson.measure([changed])
        torch.nn.init.zeros_(lesson.heads[0].weight)
        torch.nn.init.zeros_(lesson.heads[0].bias)
        return lesson(student, changed).item()

    plain = loss(torch.eye(6), 0)
    assert plain == pytest.approx(1, abs=1e-5)  # of a student that predicts the mean
    assert loss(1000 * torch.eye(6), -5) == pytest.approx(plain, rel=1e-4)
    assert loss(rotation, 0) == pytest.approx(plain, rel=1e-4)


def test_proportions_between_channels_stay() -> None:
    teacher = [torch.cat([maps((8, 1, 8, 8))[0], 10 * maps((8, 1, 8, 8), seed=1)[0]], 1)]
    lesson = Lesson(teacher, teacher)
    lesson.measure([teacher])
    target = (teacher[0] - lesson.mean0) / lesson.std0
    deviations = target.std((0, 2, 3))
    assert (deviations[1] / deviations[0]).item() == pytest.approx(10, rel=0.2)


def test_pairs_are_nearest_in_stride_and_the_last_teach_the_last() -> None:
    pyramid = [torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (4, 8, 16, 32)]
    patches = [torch.zeros(1, 1, 4, 4)]  # as of a ViT with patches of 16
    assert pairs(pyramid, pyramid) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert pairs(pyramid, patches) == [(3, 0)]
    assert pairs(patches, pyramid) == [(0, 3)]
    assert pairs(pyramid[1:], pyramid[:3]) == [(0, 1), (2, 2)]  # stride 16 is the last one's


def test_both_go_to_the_smaller_grid() -> None:
    student, teacher = maps((1, 2, 8, 8)), maps((1, 3, 5, 9), seed=1)
    lesson = Lesson(student, teacher, loss=dict(type=f"{__name__}:shape_of"))
    lesson(student, teacher)
    assert SEEN == [((1, 3, 5, 8), (1, 3, 5, 8))]


SEEN: list[tuple[tuple[int, ...], tuple[int, ...]]] = []


def shape_of(student: Tensor, teacher: Tensor) -> Tensor:
    SEEN.append((tuple(student.shape), tuple(teacher.shape)))
    return student.sum()


def test_a_loss_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="images without labels do not have"):
        Lesson(maps((1, 4, 2, 2)), maps((1, 4, 2, 2)), loss="dkd")


@pytest.mark.parametrize("value", [3.0, float("nan")])
def test_a_constant_teacher_teaches_nothing(value: float) -> None:
    lesson = Lesson(maps((1, 4, 2, 2)), maps((1, 4, 2, 2)))
    with pytest.raises(FloatingPointError, match="nothing to learn"):
        lesson.measure([[torch.full((1, 4, 2, 2), value)]])
