"""Labels of the positions of a detector: what its own head assigns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

import kdlosses
from densekd import Distiller
from densekd.mmlab.assigned import Assigned
from densekd.mmlab.building import build_model
from densekd.term import two_classes

from .conftest import det_batch

K, SIZE = 10, 96
BOXES, CLASSES = torch.tensor([[8.0, 8.0, 40.0, 40.0], [48.0, 16.0, 90.0, 80.0]]), torch.tensor([1, 7])  # of det_batch
_GRID = dict(
    type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32, 64, 128]
)
_ATSS = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False)
_SIMOTA = dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5))
_SOFT = dict(assigner=dict(type="DynamicSoftLabelAssigner", topk=13), allowed_border=-1, pos_weight=-1, debug=False)
_DELTAS = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
_POINTS = dict(type="MlvlPointGenerator", strides=[8, 16, 32, 64, 128])
_GIOU = dict(type="GIoULoss")
_OF_POINTS = dict(loss_bbox=_GIOU, bbox_coder=dict(type="DistancePointBBoxCoder"))
_QUALITY = dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0)
HEADS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "FCOSHead": ("FCOS", dict(strides=[8, 16, 32, 64, 128]), None),
    "ATSSHead": ("ATSS", dict(anchor_generator=_GRID, bbox_coder=_DELTAS, loss_bbox=_GIOU), _ATSS),
    "GFLHead": (
        "GFL",
        dict(anchor_generator=_GRID, loss_dfl=dict(type="DistributionFocalLoss"), loss_cls=_QUALITY, loss_bbox=_GIOU),
        _ATSS,
    ),
    "RTMDetSepBNHead": ("RTMDet", dict(anchor_generator=_POINTS, loss_cls=_QUALITY, **_OF_POINTS), _SOFT),
    "YOLOXHead": ("YOLOX", dict(strides=[8, 16, 32, 64, 128]), _SIMOTA),
}


def detector(det: Config, head: str = "RetinaHead") -> nn.Module:
    torch.manual_seed(0)
    if head != "RetinaHead":
        kind, options, train = HEADS[head]
        det.model.type, det.model.train_cfg = kind, train
        both = dict(
            type=head, num_classes=K, in_channels=16, feat_channels=16, stacked_convs=1, norm_cfg=dict(type="BN")
        )
        det.model.bbox_head = {**both, **options}
    return build_model(det)[0]


@pytest.fixture
def assigned(det: Config) -> Callable[[str], tuple[nn.Module, list[Tensor]]]:
    def run(head: str = "RetinaHead") -> tuple[nn.Module, list[Tensor]]:
        model = detector(det, head)
        before = dict(vars(model.bbox_head))
        with Assigned(model) as found:
            model(**det_batch(model), mode="loss")
        assert vars(model.bbox_head).keys() == before.keys()  # it is the plain head again
        return model, found.levels

    return run


def test_retinanet_has_what_its_assigner_says_by_hand(assigned: Any) -> None:
    model, levels = assigned()
    head = model.bbox_head
    sizes = [tuple(each.shape[2:]) for each in levels]
    assert [each.shape[:2] for each in levels] == [(2, 9)] * 5
    priors = head.prior_generator.grid_priors(sizes, device="cpu")
    truth = InstanceData(bboxes=BOXES, labels=CLASSES)
    result = head.assigner.assign(InstanceData(priors=torch.cat(priors)), truth)
    expected = torch.full_like(result.gt_inds, K)
    expected[result.gt_inds < 0] = -1
    expected[result.gt_inds > 0] = CLASSES[result.gt_inds[result.gt_inds > 0] - 1]
    for each, mine in zip(expected.split([len(level) for level in priors]), levels):
        for image in mine:
            assert torch.equal(image.permute(1, 2, 0).flatten(), each)
    told = torch.cat([each.flatten() for each in levels])
    assert {-1, 1, 7, K} == {*told.tolist()}  # ignored, both objects, background


@pytest.mark.parametrize("head", HEADS)
def test_an_object_is_where_its_box_is(assigned: Any, head: str) -> None:
    _, levels = assigned(head)
    counts = {1: 0, 7: 0}
    for stride, level in zip((8, 16, 32, 64, 128), levels):
        batch, priors, height, width = level.shape
        assert (batch, priors) == (2, 1)
        for image in level[:, 0]:
            for y in range(height):
                for x in range(width):
                    label = int(image[y, x])
                    at = torch.tensor([(x + 0.5) * stride, (y + 0.5) * stride])
                    near = [
                        int(c)
                        for box, c in zip(BOXES, CLASSES)
                        if bool((at > box[:2] - stride).all() and (at < box[2:] + stride).all())
                    ]
                    assert label in (*near, K, -1)
                    counts[label] = counts.get(label, 0) + 1
    assert counts[1] > 0
    assert counts[7] > 0
    assert counts[K] > counts[1] + counts[7]


def taught(det: Config, det_teacher: dict[str, str], entry: dict[str, Any]) -> Distiller:
    torch.manual_seed(0)
    return Distiller(student=det, **det_teacher, distills=[entry])


@pytest.mark.usefixtures("registry_restored")
def test_a_loss_on_sigmoids_and_one_on_features_read_them(det: Config, det_teacher: dict[str, str]) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def nosy(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        seen.append((student, labels))
        return student.square().mean()

    over_classes = kdlosses.register(over_classes=True, name="over_classes")(nosy)
    for entry in (dict(loss=over_classes, student="bbox_head.retina_cls"), dict(loss=nosy, student="neck")):
        model = taught(det, det_teacher, entry)
        with Assigned(model) as found:
            model(**det_batch(model), mode="loss")
        assert len(seen) == 5
        for (student, labels), priors in zip(seen, found.levels):
            if student.shape[1] == 2:  # a sigmoid each
                each = [(priors == k).long().where(priors >= 0, -1) for k in range(K)]
                assert torch.equal(labels, torch.stack(each, 2).flatten(0, 2))
            else:
                objects = (priors < K) & (priors >= 0)
                assert torch.equal(labels >= 0, objects.any(1))
                assert ((labels == -1) | (priors == labels.unsqueeze(1)).any(1)).all()
        seen.clear()


@pytest.mark.parametrize("loss", ["dkd", "nkd"])
def test_the_value_is_that_of_the_loss_by_hand(det: Config, det_teacher: dict[str, str], loss: str) -> None:
    """And a prior that is ignored carries no weight: a teacher that differs there alone changes nothing."""
    model = taught(det, det_teacher, dict(loss=loss, student="bbox_head.retina_cls")).eval()
    logits: list[Tensor] = []
    hook = model.bbox_head.retina_cls.register_forward_hook(lambda *args: logits.append(args[2]))
    with Assigned(model) as found:
        batch = det_batch(model)
        losses = model(**batch, mode="loss")
    hook.remove()
    with torch.no_grad():
        teacher = model.teachers["teacher"].model
        theirs = teacher(model.teachers["teacher"]._renormalise(batch["inputs"], None), mode="tensor")[0]
    plain = kdlosses.build(loss, ignore_index=-1)
    expected, moved = [], []
    for mine, its, priors in zip(logits, theirs, found.levels):
        labels = torch.stack([(priors == k).long().where(priors >= 0, -1) for k in range(K)], 2).flatten(0, 2)
        told = dict(labels=labels, **({"epoch": 1} if "epoch" in plain.requires else {}))
        expected.append(plain(two_classes(mine), two_classes(its), **told))
        other = two_classes(its).where((labels >= 0).unsqueeze(1), 9.0)
        moved.append(plain(two_classes(mine), other, **told))
    torch.testing.assert_close(losses[f"distill.loss_{loss}"], torch.stack(expected).sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(moved).sum(), torch.stack(expected).sum())


def test_nd_runs_on_the_levels_of_a_neck(det: Config, det_teacher: dict[str, str]) -> None:
    """Means of the classes that have objects alone are gathered, and the student is moved."""
    model = taught(det, det_teacher, dict(loss="nd", student="neck"))
    model(**det_batch(model), mode="loss")["distill.loss_nd"].backward()
    seen = model.distill["nd"].loss.loss.teacher.seen
    assert {*seen.nonzero().flatten().tolist()} == {1, 7}
    assert model.neck.fpn_convs[0].conv.weight.grad.abs().sum() > 0


def test_a_detector_that_assigns_nothing_says_so(det: Config, det_teacher: dict[str, str]) -> None:
    model = taught(det, det_teacher, dict(loss="nd", student="neck"))
    with pytest.raises(ValueError, match="RetinaHead returns its targets in a form that is not known"):
        Assigned(model)._read([((),)], [torch.zeros(2, 90, 4, 4)])
