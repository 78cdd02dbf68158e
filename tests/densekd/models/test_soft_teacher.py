"""Soft Teacher: how far jittered boxes scatter, and how much background counts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox2roi

from densekd.models.mean_teacher import bare
from densekd.taps.replaced import replaced

from . import semi

LOW: dict[str, Any] = dict(
    pseudo_label_initial_score_thr=0.2, cls_pseudo_thr=0.3, rpn_pseudo_thr=0.3, reg_pseudo_thr=10.0, jitter_times=5
)


def test_jitter_scatters_as_a_brute_force_says() -> None:
    model = semi.built("SoftTeacher", **LOW)
    with torch.no_grad():
        model.teacher.roi_head.bbox_head.fc_reg.weight.mul_(200)
    given = semi.batch(2)
    samples = [bare(each) for each in given["data_samples"]["unsup_teacher"]]
    inputs = given["inputs"]["unsup_teacher"]
    torch.manual_seed(7)
    found, _ = model.get_pseudo_instances(inputs, copy.deepcopy(samples))
    torch.manual_seed(7)
    head, levels = model.teacher.roi_head, model.teacher.extract_feat(inputs)
    for image, sample in enumerate(found):
        boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
        assert len(boxes) > 2
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1).repeat(1, 2)
        copies = boxes + 0.06 * sides * torch.randn(5, len(boxes), 4)
        for row, label in enumerate(labels.tolist()):
            refined = []
            for each in copies[:, row]:
                rois = bbox2roi([each[None] if number == image else each[None][:0] for number in range(2)])
                with torch.no_grad():
                    deltas = head._bbox_forward(levels, rois)["bbox_pred"].view(-1, 4)[label]
                x, y = (each[:2] + each[2:]) / 2
                width, height = each[2:] - each[:2]
                dx, dy, dw, dh = deltas * torch.tensor([0.1, 0.1, 0.2, 0.2])
                x, y = x + dx * width, y + dy * height
                width, height = width * dw.clamp(-4.135, 4.135).exp(), height * dh.clamp(-4.135, 4.135).exp()
                corner = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
                refined.append(corner.clamp(0, 64).double().numpy())
            scatter, mean = np.std(refined, axis=0, ddof=1), np.mean(refined, axis=0)
            wide, high = max(mean[2] - mean[0], 1), max(mean[3] - mean[1], 1)
            expected = (scatter / [wide, high, wide, high]).mean()
            np.testing.assert_allclose(float(sample.gt_instances.reg_uncs[row]), expected, rtol=1e-3, atol=1e-5)


def test_boxes_that_scatter_do_not_teach_where_they_are() -> None:
    model = semi.built("SoftTeacher", **LOW)
    found = semi.losses(model, semi.batch())
    assert found["unsup_loss_bbox"] > 0
    model.semi_train_cfg["reg_pseudo_thr"] = 0.0
    strict = semi.losses(model, semi.batch())
    assert strict["unsup_loss_bbox"] == 0
    assert strict["unsup_loss_cls"] > 0


@pytest.mark.parametrize("belief", [0.05, 0.6])
def test_background_counts_as_much_as_the_teacher_believes(belief: float) -> None:
    model = semi.built("SoftTeacher", **LOW, unsup_weight=1.0)
    given = semi.batch()
    weak = [bare(each) for each in given["data_samples"]["unsup_teacher"]]
    strong = [bare(each) for each in given["data_samples"]["unsup_student"]]
    pseudo, info = model.get_pseudo_instances(given["inputs"]["unsup_teacher"], weak)
    strong = model.project_pseudo_instances(pseudo, strong)
    last = model.teacher.roi_head.bbox_head.fc_cls
    with torch.no_grad():  # the same belief for all: softmax of (0, ..., 0, z)
        last.weight.zero_()
        last.bias.zero_()
        last.bias[-1] = np.log(10 * belief / (1 - belief))
    head, seen = model.student.roi_head.bbox_head, []
    loss = head.loss

    def looked(scores: Any, deltas: Any, rois: Any, labels: Any, *rest: Any, **more: Any) -> Any:
        seen.append((scores.detach().double(), labels))
        return loss(scores, deltas, rois, labels, *rest, **more)

    with replaced(head, {"loss": looked}):
        found = model.loss_by_pseudo_instances(given["inputs"]["unsup_student"], strong, info)
    scores, labels = seen[0]
    each = -scores.log_softmax(1)[range(len(labels)), labels].numpy()
    weight = np.where(labels.numpy() == 10, belief, 1.0)
    assert {*weight.tolist()} == {belief, 1.0}
    np.testing.assert_allclose(float(found["unsup_loss_cls"].detach()), (weight * each).sum() / weight.sum(), rtol=1e-4)


def test_stages_choose_their_labels_by_their_own_scores() -> None:
    both = semi.losses(semi.built("SoftTeacher", **LOW), semi.batch())
    first = semi.losses(semi.built("SoftTeacher", **{**LOW, "cls_pseudo_thr": 1.0}), semi.batch())
    assert first["unsup_loss_rpn_bbox"] == both["unsup_loss_rpn_bbox"] > 0
    assert first["unsup_loss_cls"] != both["unsup_loss_cls"]
