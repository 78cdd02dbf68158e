"""The losses of UniDistill against NumPy, and what may not matter to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import expit
from torch import Tensor

from densekd.losses import unidistill_feature, unidistill_heatmap, unidistill_regression, unidistill_relation
from densekd.sensors.geometry import Extent

from .test_geometry import BOXES, EXTENT, bilinear, corners_of

CONTRACT = [
    LossContract("unidistill_feature", options=dict(student_range=(0, 0, 6, 4))),
    LossContract("unidistill_heatmap", options=dict(student_range=(0, 0, 6, 4))),
    LossContract("unidistill_regression", options=dict(student_range=(0, 0, 6, 4))),
    LossContract("unidistill_relation", options=dict(student_range=(0, 0, 6, 4))),
]

ALL = [unidistill_feature, unidistill_relation, unidistill_heatmap, unidistill_regression]
RANGE = EXTENT[:4]
every_loss = pytest.mark.parametrize("loss", ALL)


def maps(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (2, 3, 16, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes() -> list[Tensor]:
    return [torch.from_numpy(BOXES), torch.zeros(0, 5, dtype=torch.float64)]


def inside(places: np.ndarray) -> np.ndarray:
    return (places >= RANGE[:2]).all(1) & (places < RANGE[2:]).all(1)


def test_formula_of_the_features() -> None:
    s, t = maps(0), maps(1)
    distances = []
    for box in BOXES:
        places = corners_of(box)
        places = places[inside(places)]
        if len(places):
            a, b = (bilinear(each[0].numpy(), places, EXTENT) for each in (s, t))
            distances += np.abs(a - b).mean(1).tolist()
    value = unidistill_feature(s, t, boxes(), RANGE).item()
    np.testing.assert_allclose(value, np.mean(distances), atol=1e-10)


def test_formula_of_the_relations() -> None:
    s, t = maps(0), maps(1, 2, 7, 16, 32)  # other channels
    differences = []
    for box in BOXES:
        places = corners_of(box)
        places = places[inside(places)]
        if len(places):
            relations = []
            for each in (s, t):
                f = bilinear(each[0].numpy(), places, EXTENT)
                f /= np.linalg.norm(f, axis=1, keepdims=True)
                relations.append(f @ f.T)
            differences += np.abs(relations[0] - relations[1]).ravel().tolist()
    value = unidistill_relation(s, t, boxes(), RANGE).item()
    np.testing.assert_allclose(value, np.mean(differences), atol=1e-10)


def test_formula_of_the_responses() -> None:
    """One box of 8 x 8 cells: radius 3 at an overlap of .3 (from the third equation), drawn by hand."""
    s, t = maps(0, 1, 4, 16, 32), maps(1, 1, 4, 16, 32)
    box = [torch.tensor([[4.2, 1.3, 8.0, 8.0, 0.5]])]
    b = 2 * 0.3 * 16
    assert int((-b + np.sqrt(b * b + 16 * 0.3 * 0.7 * 64)) / 2) == 3
    u, v = np.arange(32) - 12, np.arange(16) - 7
    mask = np.exp(-(u[None] ** 2 + v[:, None] ** 2) / (2 * (7 / 6) ** 2))
    mask[np.abs(v) > 3] = 0
    mask[:, np.abs(u) > 3] = 0
    h = [expit(s.numpy()).max(1)[0], expit(t.numpy() / 2).max(1)[0]]
    value = unidistill_heatmap(s, t, box, RANGE, tau=2.0, min_overlap=0.3).item()
    np.testing.assert_allclose(value, (mask * np.abs(h[0] - h[1])).sum() / mask.sum(), rtol=1e-10)
    distance = np.abs(s.numpy() - t.numpy()).mean(1)[0]
    value = unidistill_regression(s, t, box, RANGE, min_overlap=0.3).item()
    np.testing.assert_allclose(value, (mask * distance).sum() / mask.sum(), rtol=1e-10)


@every_loss
def test_no_boxes_is_zero_and_keeps_the_graph(loss) -> None:
    student = maps(0).requires_grad_()
    for none in ([torch.zeros(0, 5)] * 2, [torch.tensor([[99.0, 0.0, 4.0, 2.0, 0.0]])] * 2):  # or all beside the map
        value = loss(student, maps(1), none, RANGE)
        assert value == 0
        value.backward()
        assert (student.grad == 0).all()


@every_loss
def test_background_does_not_teach(loss) -> None:
    student = maps(0).requires_grad_()
    loss(student, maps(1), boxes(), RANGE).backward()
    assert (student.grad[1] == 0).all()  # a sample without boxes
    assert (student.grad[0].abs().sum(0) > 0).float().mean() < 0.5


@every_loss
def test_quarter_turns_of_boxes_and_maps_change_nothing(loss) -> None:
    s, t, extent = maps(0, 1, 3, 16, 16), maps(1, 1, 3, 16, 16), (-8, -8, 8, 8)
    box = torch.tensor([[2.5, 1.5, 4.0, 2.0, 0.4], [-3.5, 0.5, 5.0, 2.0, -1.0]], dtype=torch.float64)
    turned = torch.stack([-box[:, 1], box[:, 0], box[:, 2], box[:, 3], box[:, 4] + torch.pi / 2], 1)
    value = loss(s, t, [box], extent)
    assert value > 0
    torch.testing.assert_close(loss(s.rot90(-1, (2, 3)), t.rot90(-1, (2, 3)), [turned], extent), value)


@every_loss
def test_a_map_with_rows_along_x_is_the_same_map(loss) -> None:
    s, t = maps(0), maps(1)
    value = loss(s, t, boxes(), RANGE)
    torch.testing.assert_close(loss(s, t.mT, boxes(), RANGE, teacher_axes="xy"), value)
    torch.testing.assert_close(loss(s.mT, t, boxes(), RANGE, student_axes="xy"), value)
    weight = torch.rand(2, 16, 32, dtype=torch.float64)
    expected = loss(s, t, boxes(), RANGE, weight=weight)
    torch.testing.assert_close(
        loss(s.mT, t.mT, boxes(), RANGE, student_axes="xy", teacher_axes="xy", weight=weight.mT), expected
    )


@every_loss
def test_a_teacher_that_sees_more_is_cut_to_what_the_student_sees(loss) -> None:
    """The student's map is the middle of the teacher's: with the same features in metres nothing is left to learn."""
    teacher = maps(1, 1, 3, 16, 32)
    student = teacher[..., 4:12, 8:24]
    middle = (RANGE[0] + 8, RANGE[1] + 4, RANGE[2] - 8, RANGE[3] - 4)
    box = [torch.tensor([[8.0, 2.0, 4.2, 1.9, 0.6], [4.0, 0.5, 3.0, 2.0, 2.0]], dtype=torch.float64)]
    assert loss(student, teacher, box, middle, RANGE) < 1e-12
    shifted = teacher.roll(1, 3)
    assert loss(student, shifted, box, middle, RANGE) > 0.01
    pixels = Extent.of(middle)  # taken for maps of one range they would not meet
    assert loss(student, teacher[..., :8, :16], box, pixels[:4]) > 0.01


@every_loss
def test_order_of_boxes_and_padding_cannot_matter(loss) -> None:
    s, t = maps(0), maps(1)
    two = [torch.from_numpy(BOXES[:2]), torch.from_numpy(BOXES[2:])]
    turned = [two[0].flip(0), two[1].flip(0)]
    torch.testing.assert_close(loss(s, t, turned, RANGE), loss(s, t, two, RANGE))


def test_an_offset_of_one_is_a_loss_of_one() -> None:
    s = maps(0)
    assert unidistill_feature(s, s + 1, boxes(), RANGE).item() == pytest.approx(1)
    assert unidistill_regression(s, s + 1, boxes(), RANGE).item() == pytest.approx(1)
    assert unidistill_relation(s, 7 * s, boxes(), RANGE).item() == pytest.approx(0, abs=1e-12)
