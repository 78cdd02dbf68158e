"""A detector and its moving average: what is read of a batch, which way boxes go, and how the average follows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData

from densekd.checkpoint import load_weights
from densekd.cli import test, train
from densekd.mmlab.config import control, distill, read_config
from densekd.models.mean_teacher import bare
from densekd.registry import MODELS

from . import semi

KINDS = ("MeanTeacher", "LPLD", "WSCoL", "SoftTeacher")
LOW: dict[str, dict[str, Any]] = {
    "MeanTeacher": dict(cls_pseudo_thr=0.3),
    "LPLD": dict(cls_pseudo_thr=0.3, foreground=0.2, background=1.0, iou=0.9),
    "WSCoL": dict(cls_pseudo_thr=0.3, width=16),
    "SoftTeacher": dict(
        pseudo_label_initial_score_thr=0.2, cls_pseudo_thr=0.3, rpn_pseudo_thr=0.3, reg_pseudo_thr=10.0, jitter_times=3
    ),
}


@pytest.mark.parametrize("interval", [1, 2])
def test_the_teacher_follows_as_an_average(interval: int) -> None:
    model = semi.built("MeanTeacher", cls_pseudo_thr=0.3, momentum=0.75, interval=interval)
    path = "roi_head.bbox_head.fc_reg.weight"
    expected = model.teacher.get_parameter(path).double()
    draw = torch.Generator().manual_seed(0)
    for step in range(4):
        student = model.student.get_parameter(path).double()
        if step and step % interval == 0:
            expected = 0.75 * expected + 0.25 * student
        with torch.no_grad():
            model(**semi.batch(1, seed=step), mode="loss")
            torch.testing.assert_close(model.teacher.get_parameter(path).double(), expected, rtol=1e-5, atol=1e-6)
            weight = model.student.get_parameter(path)
            weight.add_(torch.randn(weight.shape, generator=draw))
    name = "backbone.bn1.running_mean"
    before = model.teacher.get_buffer(name).clone()
    model._follow()
    assert torch.equal(model.teacher.get_buffer(name), model.student.get_buffer(name))
    assert not torch.equal(model.teacher.get_buffer(name), before)
    assert int(model.steps) == 5
    model.eval()(**semi.batch(1), mode="loss")
    assert int(model.steps) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_no_label_of_an_unlabelled_image_is_read(kind: str) -> None:
    first = semi.losses(semi.built(kind, **LOW[kind]), semi.batch())
    poisoned = semi.batch()
    boxes = torch.full((3, 4), torch.nan)
    for branch in poisoned["data_samples"].values():
        for sample in branch:
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.full((3,), 10**6))
            sample.ignored_instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 64, 64]]), labels=torch.tensor([0]))
            sample.proposals = InstanceData(bboxes=boxes, scores=boxes[:, 0])
            sample.set_metainfo({"instances": [{"bbox": [np.nan] * 4, "bbox_label": 10**6}]})
    assert semi.losses(semi.built(kind, **LOW[kind]), poisoned) == first
    assert first["loss"] > 0
    assert np.isfinite([*first.values()]).all()


@pytest.mark.parametrize("data", ["digits", pytest.param("bccd", marks=pytest.mark.data)])
def test_the_training_data_have_no_labels(data: str, request: pytest.FixtureRequest) -> None:
    if data == "bccd":
        request.getfixturevalue("data_root")
    config = read_config(f"det/lpld/{data}").train_dataloader.dataset
    with DefaultScope.overwrite_default_scope("mmdet"):
        item = DATASETS.build(config)[0]
    for branch in ("unsup_teacher", "unsup_student"):
        assert len(item["data_samples"][branch].gt_instances) == 0
        assert "instances" not in item["data_samples"][branch].metainfo
    assert not torch.equal(item["inputs"]["unsup_teacher"], item["inputs"]["unsup_student"])


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_sure_box_all_is_finite(kind: str) -> None:
    model = semi.built(kind, sharp=1.0, **{**LOW[kind], "cls_pseudo_thr": 1.0})
    if kind == "SoftTeacher":
        model.semi_train_cfg.update(pseudo_label_initial_score_thr=1.0)
    found = semi.losses(model, semi.batch())
    assert np.isfinite([*found.values()]).all()
    for name in ("unsup_loss_bbox", *(() if kind == "SoftTeacher" else ("unsup_loss_cls", "unsup_loss_rpn_cls"))):
        assert found[name] == 0, name
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["LPLD", "WSCoL"])
def test_without_any_proposal_all_is_finite(kind: str) -> None:
    model = semi.built(kind, **LOW[kind])
    model.teacher.rpn_head.test_cfg.min_bbox_size = 1000
    assert np.isfinite([*semi.losses(model, semi.batch()).values()]).all()


def test_boxes_go_from_a_mirrored_view_to_the_other_one() -> None:
    model = semi.built("MeanTeacher", cls_pseudo_thr=0.0)
    given = semi.batch(2, flipped=True)
    weak = given["data_samples"]["unsup_teacher"]
    with torch.no_grad():
        seen = model.teacher.predict(given["inputs"]["unsup_teacher"], copy.deepcopy(weak), rescale=False)
        pseudo, _ = model.get_pseudo_instances(given["inputs"]["unsup_teacher"], weak)
        strong = model.project_pseudo_instances(pseudo, [bare(each) for each in given["data_samples"]["unsup_student"]])
    for there, here in zip(seen, strong):
        boxes = there.pred_instances.bboxes
        assert len(boxes) > 3
        mirrored = torch.stack([64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]], 1)
        torch.testing.assert_close(here.gt_instances.bboxes, mirrored, rtol=0, atol=1e-3)


def test_mixed_precision_does_not_move_boxes() -> None:
    model = semi.built("MeanTeacher")
    boxes = torch.tensor([[901.3, 333.7, 1011.1, 640.9]])
    weak, strong = semi.sample(np.diag([0.63, 0.63, 1]).astype(np.float32)), semi.sample(np.eye(3, dtype=np.float32))
    for each in (weak, strong):
        each.set_metainfo({"img_shape": (1333, 1333), "ori_shape": (2000, 2000)})
    weak.gt_instances = InstanceData(bboxes=0.63 * boxes, scores=torch.ones(1))
    with torch.autocast("cpu", torch.bfloat16):
        model._to_original([weak])
        found = model.project_pseudo_instances([weak], [strong])[0].gt_instances.bboxes
    torch.testing.assert_close(found, boxes, rtol=0, atol=1e-2)


def test_proposals_go_to_the_other_view_as_well() -> None:
    model = semi.built("LPLD", **LOW["LPLD"])
    given = semi.batch(2, flipped=True)
    views = {name: [bare(each) for each in branch] for name, branch in given["data_samples"].items()}
    _, told = model.get_pseudo_instances(given["inputs"]["unsup_teacher"], views["unsup_teacher"])
    there = told.in_views(views["unsup_student"])
    assert torch.equal(there[:, 0], told.rois[:, 0])
    torch.testing.assert_close(there[:, 1], 64 - told.rois[:, 3], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["LPLD", "WSCoL"])
def test_proposals_that_the_strong_view_has_lost_teach_nothing(kind: str) -> None:
    found = []
    for shift in (0, 40, 200):
        model = semi.built(kind, **LOW[kind])
        given = semi.batch()
        matrix = np.array([[1, 0, -shift], [0, 1, 0], [0, 0, 1]], np.float32)
        for each in given["data_samples"]["unsup_student"]:
            each.set_metainfo({"homography_matrix": matrix})
        values = semi.losses(model, given)
        assert np.isfinite([*values.values()]).all()
        found.append(values["unsup_loss_lpl" if kind == "LPLD" else "unsup_loss_consistency"])
    assert found[0] > 0
    assert found[1] > 0
    assert found[2] == 0


def test_only_the_student_learns() -> None:
    model = semi.built("LPLD", **LOW["LPLD"])
    semi.losses(model, semi.batch())
    assert not model.teacher.training
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_images_with_labels_teach_as_well_and_a_distiller_distills() -> None:
    entry = dict(loss="mse", student="neck", teacher="neck", weight=2.0)
    student = dict(
        type="densekd.Distiller",
        student=semi.detector(),
        teacher=semi.detector(),
        checkpoint="random",
        distills=[entry],
    )
    model = semi.built("MeanTeacher", student=student, cls_pseudo_thr=0.3)
    found = semi.losses(model, semi.batch(labels=True))
    assert found["sup_distill.loss_mse"] > 0
    assert found["unsup_distill.loss_mse"] > 0
    assert found["sup_loss_cls"] > 0
    assert not any("distill" in name for name in model.teacher.state_dict())
    assert "sup_loss_cls" not in semi.losses(model, semi.batch())


def test_its_checkpoint_is_one_of_the_plain_detector(tmp_path: Path) -> None:
    model = semi.built("WSCoL", **LOW["WSCoL"])
    with torch.no_grad():
        model.student.roi_head.bbox_head.fc_cls.bias.add_(1)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "run.pth")
    plain = semi.plain()
    load_weights(plain, tmp_path / "run.pth")
    state = plain.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.teacher.state_dict().items())
    again = semi.built("MeanTeacher", checkpoint=str(tmp_path / "run.pth"), sharp=1.0)
    assert torch.equal(again.student.roi_head.bbox_head.fc_cls.bias, state["roi_head.bbox_head.fc_cls.bias"])


def test_a_run_from_source_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = control(read_config("det/lpld/digits"))
    with DefaultScope.overwrite_default_scope("mmdet"):
        weights = MODELS.build(source.model)
    torch.save({"state_dict": weights.state_dict()}, tmp_path / "source.pth")
    small = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
    small += ["train_dataloader.batch_size=2", "val_dataloader.dataset.count=2", "test_dataloader.dataset.count=2"]
    options = ["--cfg-options", *small]
    run = ["det/lpld/digits", "--checkpoint", str(tmp_path / "source.pth"), "--work-dir", str(tmp_path / "run")]
    train.main([*run, "--seed", "0", *options])
    assert "ema, the detector's average" in capsys.readouterr().out
    scores = test.main(["det/lpld/digits", str(tmp_path / "run"), "--cfg-options", small[-1]])
    assert "coco/bbox_mAP" in scores
    with pytest.raises(SystemExit, match="takes --checkpoint alone"):
        train.main(["det/lpld/digits", "--control"])
    with pytest.raises(ValueError, match="is its detector=, not around it"):
        distill(read_config("det/lpld/digits"), teacher="ema", method="pkd")


WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("MeanTeacher", dict(momentum=1.0), "momentum must be a number from 0 to less than 1, got 1.0"),
    ("MeanTeacher", dict(momentum=True), "momentum must be a number"),
    ("MeanTeacher", dict(interval=0), "interval must be a number of steps"),
    ("MeanTeacher", dict(cls_pseudo_threshold=0.5), "did you mean 'cls_pseudo_thr'"),
    ("MeanTeacher", dict(cls_pseudo_thr=1.5), "cls_pseudo_thr must be a number from 0 to 1, got 1.5"),
    ("MeanTeacher", dict(unsup_weight=float("nan")), "unsup_weight must be a number, at least 0"),
    ("MeanTeacher", dict(freeze_teacher=False), "freeze_teacher must be True"),
    ("MeanTeacher", dict(min_pseudo_bbox_wh=3), "min_pseudo_bbox_wh must be a width and a height"),
    ("LPLD", dict(lpl_alone=1), "lpl_alone must be True or False"),
    ("LPLD", dict(iou=-0.1), "iou must be a number from 0 to 1"),
    ("WSCoL", dict(tau=0), "tau must be positive"),
    ("WSCoL", dict(memory=2.5), "memory must be a whole number"),
    ("SoftTeacher", dict(jitter_times=1), "jitter_times must be a whole number, at least 2"),
)


@pytest.mark.parametrize(("kind", "options", "message"), WRONG, ids=[f"{k}-{next(iter(o))}" for k, o, _ in WRONG])
def test_what_is_wrong_is_said_before_training(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        semi.built(kind, **options)


def test_wrong_batches_and_detectors_are_named(tmp_path: Path) -> None:
    model = semi.built("MeanTeacher", checkpoint=None)
    with pytest.raises(ValueError, match="no weights that it could be adapted from"):
        model(**semi.batch(), mode="loss")
    model(**semi.batch(labels=True), mode="loss")
    with pytest.raises(ValueError, match="needs batches with the branches 'unsup_teacher' and 'unsup_student'"):
        model(torch.zeros(1, 3, 64, 64), [], mode="loss")
    given = semi.batch()
    given["data_samples"]["unsup_student"][0].set_metainfo({"img_shape": (32, 32)})
    with pytest.raises(ValueError, match="list 'homography_matrix' in the meta_keys"):
        semi.built("MeanTeacher")(**given, mode="loss")
    one_stage = read_config("det/plain/gfl_r18_w16_digits").model
    for kind in ("LPLD", "SoftTeacher"):
        with pytest.raises(ValueError, match="two-stage detectors with a neck and one box head"):
            MODELS.build(dict(type=f"densekd.{kind}", detector=one_stage))
    with pytest.raises(TypeError, match="must be the config of a model"):
        MODELS.build(dict(type="densekd.MeanTeacher", detector=dict(a=1)))
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="of another architecture"):
        semi.built("MeanTeacher", checkpoint=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("kind", ["MeanTeacher", "SoftTeacher"])
def test_a_detector_of_masks_or_without_a_preprocessor_is_refused(kind: str) -> None:
    masks = semi.detector()
    head = dict(type="FCNMaskHead", num_convs=1, in_channels=16, conv_out_channels=16, num_classes=10)
    masks.roi_head.update(mask_head=head, mask_roi_extractor=masks.roi_head.bbox_roi_extractor)
    masks.type = "MaskRCNN"
    with pytest.raises(ValueError, match="a MaskRCNN learns from masks, but pseudo labels are boxes"):
        semi.built(kind, student=masks)
    bare_one = semi.detector()
    bare_one.pop("data_preprocessor")
    with pytest.raises(ValueError, match="the detector has no data_preprocessor"):
        semi.built(kind, student=bare_one)


def test_weights_of_a_distilled_detector_are_loaded_whatever_its_parts_are_called() -> None:
    model = semi.built("MeanTeacher", checkpoint=None)
    weights = {name: each + 1 for name, each in semi.plain().state_dict().items()}
    load_state_dict(model, {**weights, "distill.terms.fbkd_0.loss.of_teacher.theta.weight": torch.ones(1)})
    for side in (model.student, model.teacher):
        torch.testing.assert_close(side.state_dict(), weights)
    model(**semi.batch(), mode="loss")  # there are weights now


def test_a_one_stage_detector_is_adapted_by_pseudo_labels() -> None:
    config = read_config("det/plain/gfl_r18_w16_digits").model
    torch.manual_seed(0)
    model: Any = MODELS.build(
        dict(type="densekd.MeanTeacher", detector=config, checkpoint="random", semi_train_cfg=dict(cls_pseudo_thr=0.0))
    )
    model.init_weights()
    with torch.no_grad():
        model.teacher.bbox_head.gfl_cls.bias.fill_(2.0)
    assert semi.losses(model.train(), semi.batch(1))["unsup_loss_cls"] > 0


@pytest.mark.parametrize("name", ["mean_teacher", "lpld", "wscol", "soft_teacher"])
def test_the_config_on_digits_takes_a_step(name: str) -> None:
    config = read_config(f"det/{name}/digits")
    config.model.checkpoint = "random"
    if name != "soft_teacher":  # its batches are of two kinds of images
        config.train_dataloader.batch_size = 2
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model: Any = MODELS.build(config.model)
        model.init_weights()
        given = next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))
        found = semi.losses(model.train(), model.data_preprocessor(given, training=True))
    assert np.isfinite([*found.values()]).all()
