"""Cross heads: what the teacher's layers make of the student's features, and whom the gradient reaches."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densekd import Distiller
from densekd.methods import method_entries
from densekd.methods.crosskd import Overlap, Quality, aligned
from densekd.mmlab.assigned import Assigned
from densekd.mmlab.building import build_model
from densekd.taps.reader import Taps

from ..conftest import CONFIGS, det_batch
from ..test_assigned import K, detector
from .teaching import gap, scenes_of_objects

HEADS = "RetinaHead", "ATSSHead", "GFLHead", "FCOSHead"


def of(head: str, seed: int = 0, **options: Any) -> nn.Module:
    """A detector whose head has two convolutions a branch, and features as large as those of a trained one."""
    config = Config.fromfile(CONFIGS / "det.py")
    detector(config, head)  # it writes the head into the config
    config.model.bbox_head.update(stacked_convs=2, **options)
    model: Any = build_model(config)[0]
    torch.manual_seed(seed)
    for name, weight in model.bbox_head.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
        if "scale" in name:
            nn.init.uniform_(weight, 0.5, 2.0)
    for module in model.bbox_head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def taught(student: nn.Module, teacher: nn.Module, **options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(student=student, teacher=teacher, method=dict(type="crosskd", **options))


def terms(losses: dict[str, Any]) -> dict[str, Tensor]:
    return {key.partition("_crosskd_")[2]: value for key, value in losses.items() if "distill." in key}


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_reaches_early_layers_of_the_student_alone(head: str) -> None:
    model = taught(of(head), of(head, 1))
    teacher = model.teachers["teacher"].model
    teacher.requires_grad_(True)  # even of one that is not frozen
    before = copy.deepcopy(teacher.state_dict())
    found = terms(model(**det_batch(model), mode="loss"))
    assert {*found} == {"classes", "boxes"}
    sum(found.values()).backward()
    for branch, last in (("cls_convs", "_cls"), ("reg_convs", "_reg")):
        layers = getattr(model.bbox_head, branch)
        assert layers[0].conv.weight.grad.abs().sum() > 0
        assert layers[1].conv.weight.grad is None
        assert all(p.grad is None for name, p in model.bbox_head.named_parameters() if last in name)
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(each.grad is None for each in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("head", HEADS)
def test_a_student_with_the_features_of_its_teacher_pays_nothing(head: str) -> None:
    """Whatever its own last layers are; and one with other features pays."""
    teacher = of(head, 1)
    student, other = copy.deepcopy(teacher), of(head, 2)
    for branch in ("cls_convs", "reg_convs"):
        for one, its in zip(getattr(student.bbox_head, branch)[1:], getattr(other.bbox_head, branch)[1:]):
            one.load_state_dict(its.state_dict())
    costs = []
    for each in (student, other):
        model = taught(each, copy.deepcopy(teacher)).eval()
        costs.append({key: value.item() for key, value in terms(model(**det_batch(model), mode="loss")).items()})
    for name, least in costs[0].items():
        assert abs(least) < 2e-3 * costs[1][name], (name, costs)


def by_hand(model: Distiller, batch: dict[str, Any], stack: str, last: str) -> list[tuple[Tensor, Tensor]]:
    """Cross predictions and the teacher's of a branch, layer by layer, in double precision."""
    teacher: Any = copy.deepcopy(model.teachers["teacher"].model).double()
    layers = getattr(teacher.bbox_head, stack)
    norm = layers[0].norm_name if layers[0].with_norm else "conv"
    taps = [f"bbox_head.{stack}.0.{norm}:copy"]
    images = batch["inputs"]
    with Taps(model, taps) as mine, torch.no_grad():
        model(images, mode="tensor")
    with Taps(teacher, taps) as its, torch.no_grad():
        teacher(images.double(), mode="tensor")
    found = []
    for level, (s, t) in enumerate(zip(mine[taps[0]], its[taps[0]])):
        s, t = s.double().numpy(), t.numpy()
        told = []
        for f in (s, t):
            if f is s:
                spread = np.sqrt(f.var((0, 2, 3), keepdims=True) + 1e-12)
                f = (f - f.mean((0, 2, 3), keepdims=True)) / spread * t.std((0, 2, 3), keepdims=True)
                f = f + t.mean((0, 2, 3), keepdims=True)
            with torch.no_grad():
                out = getattr(teacher.bbox_head, last)(layers[1](F.relu(torch.from_numpy(f))))
                out = (
                    out * teacher.bbox_head.scales[level].scale
                    if "reg" in last and hasattr(teacher.bbox_head, "scales")
                    else out
                )
            told.append(out)
        found.append((told[0], told[1]))
    return found


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def test_values_of_gfl_by_hand() -> None:
    """Batch normalisation of the teacher's shared head has the teacher's statistics, in every level."""
    model = taught(of("GFLHead"), of("GFLHead", 1)).eval()
    batch = det_batch(model)
    with Assigned(model) as assigned:
        found = terms(model(**batch, mode="loss"))
    labels = np.concatenate([each[:, 0].numpy().ravel() for each in assigned.levels])
    assert ((labels >= 0) & (labels < K)).sum() > 3
    scores = by_hand(model, batch, "cls_convs", "gfl_cls")
    s, t = (np.concatenate([pair[i].permute(0, 2, 3, 1).reshape(-1, K).numpy() for pair in scores]) for i in (0, 1))
    q, p = sigmoid(s), sigmoid(t)
    each = np.abs(q - p) * (-p * np.log(q) - (1 - p) * np.log(1 - q))
    objects = ((labels >= 0) & (labels < K)).sum()
    np.testing.assert_allclose(found["classes"].item(), each.sum() / objects, rtol=1e-3)

    weight = p.max(1)
    boxes = by_hand(model, batch, "reg_convs", "gfl_reg")
    s, t = (np.concatenate([pair[i].permute(0, 2, 3, 1).reshape(-1, 4, 17).numpy() for pair in boxes]) for i in (0, 1))
    log_q, log_p = (z - np.log(np.exp(z).sum(2, keepdims=True)) for z in (s, t))
    kl = (np.exp(log_p) * (log_p - log_q)).sum(2).mean(1)
    np.testing.assert_allclose(found["boxes"].item(), 4 * (weight * kl).sum() / weight.sum(), rtol=1e-3)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    union = sum(areas) - sides.prod()
    around = (np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])).prod()
    return sides.prod() / union - (around - union) / around


@pytest.mark.parametrize("head", ["RetinaHead", "FCOSHead"])
def test_boxes_are_decoded_as_the_head_does(head: str) -> None:
    """Corners that the entry compares are those that the teacher itself would predict."""
    teacher: Any = of(head, 1)
    if head == "FCOSHead":
        teacher.bbox_head.norm_on_bbox = True
    model = taught(of(head), teacher).eval()
    batch = det_batch(model)
    with Assigned(model) as assigned, torch.no_grad():
        found = terms(model(**batch, mode="loss"))["boxes"]
    its = model.teachers["teacher"].model
    with torch.no_grad():
        scores, boxes, *_ = its(batch["inputs"], mode="tensor")
    last = "retina_reg" if head == "RetinaHead" else "conv_reg"
    cross = by_hand(model, batch, "reg_convs", last)
    count, total, objects = its.bbox_head.num_base_priors, 0.0, 0
    for level, labels in enumerate(assigned.levels):
        size, stride = labels.shape[2:], (8, 16, 32, 64, 128)[level]
        priors = its.bbox_head.prior_generator.single_level_grid_priors(size, level, device="cpu")
        for image in range(2):
            told = [boxes[level][image].double(), cross[level][0][image]]
            if head == "FCOSHead":
                told[1] = told[1].clamp_min(0) * stride
            mine, own = (z.permute(1, 2, 0).reshape(-1, 4).float() for z in (told[1], told[0]))
            a, b = (its.bbox_head.bbox_coder.decode(priors, z).numpy().astype(float) for z in (mine, own))
            weight = sigmoid(scores[level][image].permute(1, 2, 0).reshape(len(a), K).numpy()).max(1)
            label = labels[image].permute(1, 2, 0).reshape(-1).numpy()
            assert len(label) == len(priors) == size.numel() * count
            objects += ((label >= 0) & (label < K)).sum()
            there = [i for i in range(len(a)) if label[i] >= 0 and (b[i, 2:] > b[i, :2]).all()]
            assert there
            total += sum(weight[i] * (1 - overlap(a[i], b[i])) for i in there)
    np.testing.assert_allclose(found.item(), total / max(1, objects), rtol=2e-3)


def test_quality_counts_background_but_not_what_is_ignored() -> None:
    draw = torch.Generator().manual_seed(0)
    s, t = (torch.randn(2, 3, 7, generator=draw, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([[0, 3, 3, -1, 2, 3, 3], [3, 3, -1, 3, 3, 3, 1]])
    q, p = sigmoid(s.numpy()), sigmoid(t.numpy())
    each = (np.abs(q - p) ** 2 * (-p * np.log(q) - (1 - p) * np.log(1 - q))).sum(1)
    expected = each[labels.numpy() >= 0].sum() / 3
    np.testing.assert_allclose(Quality(2)(s, t, labels).item(), expected, rtol=1e-10)
    alone = labels.where(labels == 3, -1)  # no object: by one
    np.testing.assert_allclose(Quality(2)(s, t, alone).item(), each[alone.numpy() >= 0].sum(), rtol=1e-10)
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 4.0]], dtype=torch.float64)
    value = Overlap(3)(boxes[:1], boxes[1:], torch.tensor([0]), torch.tensor([0.5], dtype=torch.float64))
    np.testing.assert_allclose(value.item(), 0.5 * (1 - overlap(*boxes.numpy())), rtol=1e-6)


def test_channels_that_do_not_vary_and_single_positions_have_a_gradient() -> None:
    student = torch.zeros(1, 3, 1, 1, requires_grad=True)
    found = aligned(student, torch.ones(1, 3, 1, 1))
    found.sum().backward()
    assert torch.equal(found, torch.ones_like(found))
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert aligned(torch.full((2, 3, 4, 4), 1e4).half(), torch.randn(2, 3, 4, 4)).isfinite().all()


def test_a_wider_head_has_a_convolution_that_is_no_part_of_the_student() -> None:
    model = taught(of("GFLHead"), of("GFLHead", 1, feat_channels=24))
    names = [name for name in model.state_dict() if name.startswith("distill.")]
    assert names == [
        f"distill.crosskd_{each}.through.project.{what}" for each in ("classes", "boxes") for what in ("weight", "bias")
    ]
    sum(terms(model(**det_batch(model), mode="loss")).values()).backward()
    assert all(each.grad.abs().sum() > 0 for each in model.distill.parameters())
    copied = copy.deepcopy(model)
    for mine, its in zip(copied.distill.values(), model.distill.values()):
        assert mine.through._of_teacher is its.through._of_teacher


def test_a_teacher_that_learns_is_not_taught_by_cross_predictions() -> None:
    """Neither its weights nor the statistics of its batch normalisation: they are those of its own batch."""
    states = []
    for method in (dict(type="crosskd"), "pkd"):
        torch.manual_seed(0)
        model = Distiller(student=of("GFLHead"), teacher=of("GFLHead", 1), method=method, online=["teacher"])
        losses = model(**det_batch(model), mode="loss")
        sum(value for key, value in losses.items() if key.startswith("distill.loss_")).backward()
        its = model.distill["peers"]["teacher"].bbox_head
        assert all(each.grad is None for each in its.parameters())
        states.append(its.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("depth", [0, 2])
def test_depth(depth: int) -> None:
    model = taught(of("GFLHead"), of("GFLHead", 1), depth=depth)
    sum(terms(model(**det_batch(model), mode="loss")).values()).backward()
    layers = [layer.conv.weight.grad is not None for layer in model.bbox_head.cls_convs]
    assert layers == [depth == 2] * 2
    assert model.neck.fpn_convs[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("head", HEADS)
def test_images_without_boxes(head: str) -> None:
    model = taught(of(head), of(head, 1))
    batch = det_batch(model)
    for sample in batch["data_samples"]:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    found = terms(model(**batch, mode="loss"))
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_what_is_refused(det: Config, seg: Config) -> None:
    gfl, retina = of("GFLHead"), of("RetinaHead")
    segmenter = build_model(seg)[0]
    with pytest.raises(ValueError, match=r"'crosskd' is for detectors with a RetinaHead or .* a EncoderDecoder, has a"):
        method_entries("crosskd", segmenter, gfl)
    with pytest.raises(ValueError, match="the teacher, a YOLOX, has a YOLOXHead; 'pkd' and 'fgd'"):
        method_entries("crosskd", gfl, detector(det, "YOLOXHead"))
    with pytest.raises(ValueError, match="have other kinds of boxes: student distribution, teacher anchors"):
        method_entries("crosskd", gfl, retina)
    for options, message in {
        (("num_classes", 3),): "other classes: student 10, teacher 3",
        (("reg_max", 8),): "other bins a side: reg_max must agree",
    }.items():
        with pytest.raises(ValueError, match=message):
            method_entries("crosskd", gfl, of("GFLHead", **dict(options)))
    for depth, message in {
        3: "more than the 2 convolutions of the student's",
        -1: "at least 0, got -1",
        True: "got True",
    }.items():
        with pytest.raises(ValueError, match=f"'crosskd': depth.*{message}"):
            method_entries(dict(type="crosskd", depth=depth), gfl, gfl)
    with pytest.raises(ValueError, match="beta must be a finite number of at least 0, got nan"):
        method_entries(dict(type="crosskd", beta=float("nan")), gfl, gfl)
    with pytest.raises(ValueError, match="the weights of classes and of boxes are 0"):
        method_entries(dict(type="crosskd", classes=0, boxes=0), gfl, gfl)
    other: Any = of("RetinaHead")
    other.bbox_head.prior_generator.base_anchors[0] += 1
    with pytest.raises(ValueError, match="have other anchors: give both the same anchor_generator"):
        method_entries("crosskd", retina, other)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    method = dict(type="crosskd", boxes=4.0)
    taught, control = (
        gap(CONFIGS / "det.py", CONFIGS / "det_teacher.py", method, scenes_of_objects, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control
