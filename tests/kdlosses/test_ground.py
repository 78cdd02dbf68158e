"""Tensors and context that do not fit a loss are named; the innermost frame of the error is ours."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

import densekd.losses  # noqa: F401
import graphkd.losses  # noqa: F401
import kdlosses
from kdlosses import build

S, T = torch.randn(6, 4), torch.randn(6, 4)
MAPS = torch.randn(2, 4, 3, 5)
Y = torch.tensor([0, 1, 2, 3, -1, 255])
OURS = Path(kdlosses.__file__).parent


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "context", "error", "message"),
    [
        ("kl", S.numpy(), T, {}, TypeError, "student must be a tensor, got ndarray"),
        ("kl", S, None, {}, TypeError, "teacher must be a tensor, got NoneType"),
        ("kl", S.argmax(1), T, {}, TypeError, "student must be floating point, got torch.int64"),
        ("kl", S, T > 0, {}, TypeError, "teacher must be floating point, got torch.bool"),
        ("mse", S + 0j, T, {}, TypeError, "student must be floating point, got torch.complex64"),
        ("kl", S[:, 0], T[:, 0], {}, ValueError, r"expected \(N, C, \*\)"),
        ("at", MAPS, MAPS[..., :4], {}, ValueError, "must agree in positions"),
        ("label_smoothing", S, T[:5], dict(labels=Y), ValueError, "must agree in samples"),
        (
            *(dict(type="unidistill_feature", student_range=(0, 0, 6, 4)), MAPS, MAPS[:, :3]),
            *(dict(boxes_bev=[torch.ones(1, 5)] * 2), ValueError, "must agree in channels"),
        ),
        ("mse", S, T.to("meta"), {}, ValueError, "student is on cpu, teacher on meta"),
        ("mse", MAPS[:, :, :0], MAPS[:, :, :0], {}, ValueError, "only N may be 0"),
        ("mse", S[:, :0], T[:, :0], {}, ValueError, "only N may be 0"),
        ("kl", S[:, :1], T[:, :1], {}, ValueError, "at least two classes.*zeros_like"),
        ("ramp", S[:, :1], T[:, :1], dict(progress=0.5), ValueError, "kl: .*at least two classes"),
        (dict(type="mgd", channels=4), S, T, {}, ValueError, r"needs maps \(N, C, H, W\)"),
        (dict(type="hint", student_channels=3, teacher_channels=4), S, T, {}, ValueError, "built for 3 channels"),
        (dict(type="vid", student_channels=4, teacher_channels=5), S, T, {}, ValueError, "5 channels of the teacher"),
        ("kl", S, T, dict(weight=[1.0] * 6), TypeError, "weight must be a tensor, got list"),
        ("kl", S, T, dict(weight=torch.ones(6, 1)), ValueError, r"weight must have shape \(6,\), got \(6, 1\)"),
        ("kl", S, T, dict(weight=torch.ones(5)), ValueError, r"weight must have shape \(6,\), got \(5,\)"),
        ("kl", MAPS, MAPS, dict(weight=torch.ones(2, 1, 3, 5)), ValueError, r"weight must have shape \(2, 3, 5\)"),
        ("kl", S, T, dict(weight=torch.arange(6.0) - 1), ValueError, "at least 0, got -1.0 to 4.0"),
        ("kl", S, T, dict(weight=torch.full((6,), torch.inf)), ValueError, "weight must be finite"),
        ("kl", S, T, dict(weight=torch.ones(6) + 0j), TypeError, "weight must be bool or a number"),
        ("kl", S, T, dict(weight=torch.ones(6, device="meta")), ValueError, "weight is on meta, student on cpu"),
        ("nkd", S, T, dict(labels=Y.float()), TypeError, "labels must be whole numbers, got torch.float32"),
        ("nkd", S, T, dict(labels=Y == 1), TypeError, "labels must be whole numbers, got torch.bool"),
        ("nkd", S, T, dict(labels=Y[:5]), ValueError, r"labels must have shape \(6,\), got \(5,\)"),
        ("nkd", S, T, dict(labels=Y + 2), ValueError, "name class 257 where there are 4: 0 to 3"),
        ("nkd", S, T, dict(labels=Y.clamp(0, 4)), ValueError, "name class 4 where there are 4"),
        ("ifvd", S, T, dict(labels=Y + 9), ValueError, "where there are 4"),
        ("caw_w2", S, T, dict(edge_index=Y), ValueError, r"edge_index must be \(2, E\)"),
        ("caw_w2", S, T, dict(edge_index=torch.tensor([[0], [6]])), ValueError, "nodes 0 to 6, the student has 6"),
        ("caw_w2", S, T, dict(edge_index=torch.tensor([[-1], [2]])), ValueError, "nodes -1 to 2"),
        ("caw_w2", S, T, dict(edge_index=torch.ones(2, 3)), TypeError, "edge_index must be whole numbers"),
        ("sp", S, T, dict(batch=Y[:4]), ValueError, r"batch must have shape \(6,\)"),
        ("sp", S, T, dict(batch=S[:, 0]), TypeError, "batch must be whole numbers"),
        ("bpkd_body", MAPS, MAPS, dict(label_map=torch.zeros(2, 6)), TypeError, "label_map must be whole numbers"),
        ("bpkd_body", MAPS, MAPS, dict(label_map=torch.zeros(3, 6, 9).long()), ValueError, r"must be \(2, H, W\)"),
        ("ramp", S, T, dict(progress=1.5), ValueError, "progress is the share"),
        ("ramp", S, T, dict(progress=float("nan")), ValueError, "progress is the share"),
        ("warmup", S, T, dict(epoch=-1), ValueError, "epoch is the number"),
    ],
)
def test_what_does_not_fit_is_named(
    loss: Any, student: Any, teacher: Any, context: dict[str, Any], error: type[Exception], message: str
) -> None:
    built = build(loss, classes=4)
    with pytest.raises(error, match=message) as caught:
        built(student, teacher, **context)
    assert OURS in Path(traceback.extract_tb(caught.value.__traceback__)[-1].filename).parents


def test_what_is_given_by_position_is_looked_at_as_well() -> None:
    with pytest.raises(ValueError, match=r"weight must have shape \(6,\)"):
        kdlosses.kl(S, T, 1.0, torch.ones(5))
    with pytest.raises(TypeError, match="labels must be whole numbers"):
        kdlosses.nkd(S, T, S[:, 0])


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_and_edges_of_any_whole_numbers_are_taken(kind: torch.dtype) -> None:
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    assert build("nkd")(S, T, labels=y.to(kind)) == build("nkd")(S, T, labels=y)
    edges = torch.tensor([[0, 1], [2, 3]])
    assert build("ffg2m_high")(S, T, edge_index=edges.to(kind)) == build("ffg2m_high")(S, T, edge_index=edges)


def test_a_label_that_does_not_count_may_be_anything() -> None:
    y, weight = torch.tensor([0, 1, 2, 3, 999, -7]), torch.tensor([1.0, 1, 1, 1, 0, 1])
    expected = build("nkd")(S[:4], T[:4], labels=y[:4])
    torch.testing.assert_close(build("nkd")(S, T, labels=y, weight=weight), expected)


def test_the_teacher_takes_the_precision_of_the_student() -> None:
    for key in ("kl", "sp", "pkt"):
        value = build(key)(S, T.double())
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, build(key)(S, T))
        torch.testing.assert_close(build(key)(S.double(), T), build(key)(S.double(), T.double()))


def test_masks_take_both_sides_out() -> None:
    """A NaN of either side at weight 0 must not reach a loss that multiplies by the weight."""

    def product(student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (student * teacher * weight.unsqueeze(1)).sum()

    weight = torch.tensor([1.0, 0, 1, 1, 0, 1])
    bad = T.masked_fill(weight.unsqueeze(1) == 0, torch.nan)
    student = S.masked_fill(weight.unsqueeze(1) == 0, torch.nan).requires_grad_()
    value = build(product)(student, bad, weight=weight)
    torch.testing.assert_close(value, (S * T)[weight > 0].sum())
    value.backward()
    assert student.grad.isfinite().all()
