"""LPLD: which proposals teach softly, what they say, and that they teach where no box is sure."""

from __future__ import annotations

import numpy as np
import torch

from densekd.models.lpld import low_confidence, lpld

from . import semi

LOW = dict(cls_pseudo_thr=1.0, foreground=0.2, background=1.0)


def told(rows: int = 7, seed: int = 0) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    logits = [3 * torch.randn(rows, 5, generator=draw) for _ in range(2)]
    return (*logits, *(torch.randn(rows, 6, generator=draw) for _ in range(2)))


def test_the_loss_is_that_of_numpy() -> None:
    student, teacher, mine, its = (each.double() for each in told())
    total = 0.0
    for z_s, z_t, f_s, f_t in zip(*(each.numpy() for each in (student, teacher, mine, its))):
        p = np.append(np.exp(z_t[:-1]) / np.exp(z_t[:-1]).sum(), 1e-9)
        q = np.exp(z_s) / np.exp(z_s).sum()
        total += (1 - f_s @ f_t / np.linalg.norm(f_s) / np.linalg.norm(f_t)) * (p * (np.log(p) - np.log(q))).sum()
    np.testing.assert_allclose(lpld(student, teacher, mine, its).item(), total / len(student), rtol=1e-10)


def test_features_weigh_and_are_not_moved() -> None:
    student, teacher, mine, its = told()
    student.requires_grad_(True)
    mine.requires_grad_(True)
    lpld(student, teacher, mine, its).backward()
    assert mine.grad is None
    assert student.grad is not None
    assert student.grad[:, -1].min() > 0  # away from background, all of them
    assert lpld(student, teacher, its, its).abs().item() < 1e-5
    nothing = lpld(student[:0], teacher[:0], mine[:0], its[:0])
    assert nothing.item() == 0
    assert nothing.requires_grad
    far = 500 * teacher
    assert lpld(far.requires_grad_(True), far, mine, its).isfinite()


def test_low_confidence_is_beside_all_sure_boxes_and_of_one_class() -> None:
    draw = torch.Generator().manual_seed(1)
    corners = 50 * torch.rand(40, 2, generator=draw)
    boxes = torch.cat([corners, corners + 5 + 15 * torch.rand(40, 2, generator=draw)], 1)
    logits, sure = 2 * torch.randn(40, 5, generator=draw), boxes[:4] + 1
    found = low_confidence(logits, boxes, sure, iou=0.4, foreground=0.6, background=0.3)
    for row in range(40):
        z = logits[row].double().numpy()
        share, whole = np.exp(z[:-1]) / np.exp(z[:-1]).sum(), np.exp(z) / np.exp(z).sum()
        overlap = max(_overlap(boxes[row].tolist(), each) for each in sure.tolist())
        assert bool(found[row]) == (overlap <= 0.4 and share.max() >= 0.6 and whole[-1] <= 0.3)
    assert 3 < found.sum() < 30
    assert not found[:4].any()
    assert not low_confidence(logits, boxes, sure, 0.4, 1.0, 0.99).any()
    assert not low_confidence(logits, boxes, sure, 0.4, 0.0, 0.0).any()
    assert low_confidence(logits, boxes, sure[:0], 0.0, 0.0, 1.0).all()


def _overlap(a: list[float], b: list[float]) -> float:
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return (
        both / sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
        if not both
        else both / (sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - both)
    )


def test_where_no_box_is_sure_low_confidence_teaches() -> None:
    """Pseudo labels alone leave the student as it is; LPLD moves it to what its teacher believes."""
    given = semi.batch()
    alone = semi.built("MeanTeacher", cls_pseudo_thr=1.0)
    assert semi.losses(alone, given)["loss"] == 0
    assert all(p.grad is None or not p.grad.any() for p in alone.student.parameters())

    model = semi.built("LPLD", **LOW, lpl_weight=1.0)
    with torch.no_grad():  # a student that takes all for background
        model.student.roi_head.bbox_head.fc_cls.bias[-1] += 4
    optimiser = torch.optim.Adam(model.student.roi_head.bbox_head.fc_cls.parameters(), 0.05)
    model.momentum = 0.999
    found = []
    for _ in range(5):
        found.append(semi.losses(model, given))
        optimiser.step()
    assert found[0]["unsup_lpl_count"] > 0
    assert found[0]["unsup_loss_cls"] == 0
    assert found[-1]["unsup_loss_lpl"] < 0.8 * found[0]["unsup_loss_lpl"]
    assert semi.losses(semi.built("LPLD", **LOW, lpl_alone=False), given)["unsup_loss_lpl"] == 0


def test_without_its_weight_it_is_the_mean_teacher() -> None:
    options = dict(cls_pseudo_thr=0.3)
    plain = semi.losses(semi.built("MeanTeacher", **options), semi.batch())
    off = semi.losses(semi.built("LPLD", **options, lpl_weight=0.0), semi.batch())
    assert {key: off[key] for key in plain} == plain
    on = semi.losses(semi.built("LPLD", **options, foreground=0.2, background=1.0, iou=0.9), semi.batch())
    assert on["unsup_loss_lpl"] > 0
