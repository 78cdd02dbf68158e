"""PointDistiller on plain tensors: against NumPy by brute force, and what must not matter to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.spatial import cKDTree
from torch import Tensor

import densekd.losses.pointdistiller as module
from densekd.losses import PointDistiller
from densekd.losses.pointdistiller import nearest

CONTRACT = LossContract("pointdistiller", options=dict(crucial=7, neighbours=4))

SAMPLE = torch.tensor([0] * 17 + [1] * 30)
COUNTS = torch.tensor([1, 2, 3] * 14 + [9, 9, 30, 1, 1])


def voxels(student_channels: int = 4, teacher_channels: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(
        torch.randn(len(SAMPLE), c, generator=generator, dtype=torch.float64)
        for c in (student_channels, teacher_channels)
    )


def by_hand(loss: PointDistiller, student: Tensor, teacher: Tensor, weigh: str, tau: float) -> float:
    """The definition, one voxel at a time."""
    f, g, counts = student.numpy(), teacher.numpy(), COUNTS.numpy()
    pairs: dict[str, list[np.ndarray]] = {"student": [], "teacher": []}
    places, weights = [], []
    for sample in (0, 1):
        members = np.flatnonzero(SAMPLE.numpy() == sample)
        first = sorted(members, key=lambda i: (-counts[i], -g[i].sum()))[: loss.crucial]
        value = np.log1p(counts[first]) if weigh == "log" else counts[first].astype(float)
        share = np.exp((value - value.max()) / tau)
        for i, each in zip(first, share / share.sum()):
            near = sorted(members, key=lambda j: np.linalg.norm(g[i] - g[j]))[: loss.neighbours]
            for side, x in (("student", f), ("teacher", g)):
                part = getattr(loss, side)
                a, b = part.of_neighbour.weight.detach().numpy(), part.of_centre.weight.detach().numpy()
                pairs[side] += [a @ x[j] + b @ x[i] for j in near]
            places.append(len(near))
            weights.append(each / 2)  # the mean over two samples
    made = {}
    for side, rows in pairs.items():
        part, x = getattr(loss, side), np.array(rows)
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        made[side] = np.maximum(x * part.scale.detach().numpy() + part.shift.detach().numpy(), 0)
    errors = ((made["student"] - made["teacher"]) ** 2).mean(1)
    each = [part.mean() for part in np.split(errors, np.cumsum(places)[:-1])]
    return float(np.dot(weights, each))


@pytest.mark.parametrize(
    ("crucial", "neighbours", "weigh", "tau"),
    [(8, 5, "log", 1.0), (20, 40, "log", 1.0), (99, 99, "count", 4.0), (8, 3, "count", 0.01), (8, 3, "log", math.inf)],
)
def test_formula(crucial: int, neighbours: int, weigh: str, tau: float) -> None:
    loss = PointDistiller(4, 6, crucial, neighbours, width=5, tau=tau, importance=weigh).double()
    torch.nn.init.uniform_(loss.student.scale)
    torch.nn.init.uniform_(loss.student.shift)
    student, teacher = voxels()
    value = loss(student, teacher, batch=SAMPLE, point_counts=COUNTS)
    assert value.item() == pytest.approx(by_hand(loss, student, teacher, weigh, tau))


def test_neighbours_are_those_of_a_tree_in_any_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, centres = torch.rand(300, 3), torch.randperm(300)[:40]
    _, expected = cKDTree(points.numpy()).query(points[centres].numpy(), k=7)
    assert (nearest(points, centres, 7).numpy() == expected).all()
    monkeypatch.setattr(module, "BLOCK", 300 * 9)  # nine rows
    assert (nearest(points, centres, 7).numpy() == expected).all()
    assert nearest(points[:5], torch.tensor([3]), 7).sort().values.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("weigh", "tau"), [("log", 1.0), ("count", 2.0), ("count", 0.01)])
def test_weights_average_one(weigh: str, tau: float) -> None:
    """Where every voxel is wrong by the same, the weights have no say."""
    loss = PointDistiller(4, 6, 8, 5, tau=tau, importance=weigh).double()
    for part, shift in ((loss.student, 2.0), (loss.teacher, 5.0)):
        torch.nn.init.zeros_(part.scale)
        torch.nn.init.constant_(part.shift, shift)
    assert loss(*voxels(), batch=SAMPLE, point_counts=COUNTS).item() == pytest.approx(9.0)


def test_the_weight_is_proportional_to_one_more_than_the_count() -> None:
    """The errors of two voxels, of which two values tell, give the third."""
    loss = PointDistiller(1, 1, neighbours=1, width=3).double()
    torch.nn.init.uniform_(loss.student.shift)
    features = torch.tensor([[0.0], [1.0]]).double()
    values = [loss(features, features, point_counts=torch.tensor([m, 1])).item() for m in (1, 3, 9)]
    shares = np.array([[2, 2], [4, 2], [10, 2]]) / [[4], [6], [12]]
    errors = np.linalg.solve(shares[:2], values[:2])
    assert errors[0] != pytest.approx(errors[1])
    assert values[2] == pytest.approx(shares[2] @ errors)


def test_order_of_voxels_has_no_say_even_where_counts_are_equal() -> None:
    loss = PointDistiller(4, 6, crucial=8, neighbours=5).double()
    student, teacher = voxels()
    expected = loss(student, teacher, batch=SAMPLE, point_counts=COUNTS)
    for _ in range(3):
        order = torch.randperm(len(SAMPLE))
        value = loss(student[order], teacher[order], batch=SAMPLE[order], point_counts=COUNTS[order])
        torch.testing.assert_close(value, expected)


def test_a_voxel_of_weight_0_is_as_absent() -> None:
    loss = PointDistiller(4, 6, crucial=12, neighbours=9).double()
    student, teacher = voxels()
    kept = torch.rand(len(SAMPLE)) < 0.6
    value = loss(student, teacher, weight=kept, batch=SAMPLE, point_counts=COUNTS)
    without = loss(student[kept], teacher[kept], batch=SAMPLE[kept], point_counts=COUNTS[kept])
    torch.testing.assert_close(value, without)
    whole = loss(student, teacher, weight=SAMPLE == 1, batch=SAMPLE, point_counts=COUNTS)
    alone = loss(student[SAMPLE == 1], teacher[SAMPLE == 1], point_counts=COUNTS[SAMPLE == 1])
    torch.testing.assert_close(whole, alone)


def test_a_cell_of_a_map_is_a_voxel_as_important_as_its_greatest_channel() -> None:
    loss = PointDistiller(4, 6, crucial=9, neighbours=4, importance="count").double()
    student, teacher = torch.randn(2, 4, 5, 3).double(), torch.randn(2, 6, 5, 3).double()
    rows = [x.movedim(1, -1).flatten(0, -2) for x in (student, teacher)]
    by_rows = loss(*rows, batch=torch.arange(2).repeat_interleave(15), point_counts=rows[1].amax(1))
    torch.testing.assert_close(loss(student, teacher), by_rows)


def test_both_sides_learning_collapse_and_ours_does_not() -> None:
    """A student that knows nothing of the teacher, taught nothing: only the aggregations learn."""
    student, teacher = (x.float() for x in voxels())
    left = {}
    for both in (False, True):
        torch.manual_seed(0)
        loss = PointDistiller(4, 6, crucial=30, neighbours=8, width=8, teacher_learns=both)
        optimiser = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=0.03)
        values = []
        for _ in range(150):
            value = loss(student, teacher, batch=SAMPLE, point_counts=COUNTS)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            values.append(value.item())
        left[both] = values[-1] / values[0]
    assert left[True] < 0.02
    assert left[False] > 0.2


def test_the_random_matrices_stay_and_gradients_reach_the_student() -> None:
    loss = PointDistiller(4, 6, crucial=8, neighbours=5).double()
    student, teacher = voxels()
    student.requires_grad_()
    loss(student, teacher, batch=SAMPLE, point_counts=COUNTS).backward()
    assert (student.grad.abs().sum(1) > 0).sum() >= 16  # what is crucial, in both samples, and what lies next to it
    assert all(p.grad is None for p in loss.teacher.parameters())
    assert all(p.grad.abs().sum() > 0 for p in loss.student.parameters())


def test_wrong_input_is_named() -> None:
    student, teacher = voxels()
    loss = PointDistiller(4, 6).double()
    with pytest.raises(ValueError, match=r"point_counts must have one number for each voxel, got \(3,\).*\(47, 4\)"):
        loss(student, teacher, point_counts=COUNTS[:3])
    with pytest.raises(ValueError, match=r"batch must have shape \(2,\), got \(47,\)"):
        loss(torch.zeros(2, 4, 3, 3).double(), torch.zeros(2, 6, 3, 3).double(), batch=SAMPLE)
    with pytest.raises(ValueError, match="importance must be 'log' or 'count', got 'max'"):
        PointDistiller(4, 6, importance="max")
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        PointDistiller(4, 6, neighbours=0)
