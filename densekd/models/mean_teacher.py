"""A detector that learns from what its own moving average says of images without labels."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet.models.detectors import SemiBaseDetector
from mmdet.models.utils import filter_gt_instances, rename_loss_dict, reweight_loss_dict
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_project
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from densekd.checkpoint import load_weights
from densekd.mmlab.config import plain_model, read_config
from densekd.registry import MODELS
from densekd.taps.reader import Taps
from densekd.taps.roi_heads import FEATURES, shares_proposals
from kdlosses.ground import full
from kdlosses.moving_average import move
from kdlosses.options import check_known

LABELLED, WEAK, STRONG = "sup", "unsup_teacher", "unsup_student"
"""Branches of mmdet's `MultiBranch`: images with labels, and two views of each image without."""

Samples = list[DetDataSample]


@MODELS.register_module()
class MeanTeacher(SemiBaseDetector):
    r"""Train a detector of mmdet on pseudo labels of its moving average, with few labels or with none.

    The average (the teacher) sees a weak view of an image, the detector (the student) a strong one. Boxes that the
    teacher is sure of are the labels of the student, moved from view to view by the homographies that mmdet's
    transforms record. Before each step $\theta_T \leftarrow m \theta_T + (1 - m) \theta_S$; buffers, such as the
    statistics of batch normalisation, are copied.

    It is mmdet's `SemiBaseDetector`, which it changes where that matters: the images with labels (branch `sup` of
    `MultiBranch`) may be absent, as in a source-free adaptation; labels of the images without are removed before
    anything reads them; the teacher stays in evaluation mode, and needs no `MeanTeacherHook`, which would move it
    twice; a flip of the weak view is undone; a detector without weights is refused where nothing has labels.

    Args:
        detector: config, or path of a config, of the detector. It may be a `densekd.Distiller`, which then also
            distills from its own teacher: on images with labels, and where the method trains on pseudo labels as on
            true ones, there as well.
        semi_train_cfg: `sup_weight` and `unsup_weight` of the losses with and without labels; `cls_pseudo_thr`, the
            least score of a pseudo label; `min_pseudo_bbox_wh`, its least width and height in pixels of the strong
            view.
        semi_test_cfg: `predict_on`, `forward_on` and `extract_feat_on`: `'teacher'` or `'student'`.
        checkpoint: weights of the detector that is adapted, for student and teacher; a file, a work_dir or an address;
            `'random'` for none. The `load_from` of the detector's config if not given, that of the run does as well.
        momentum: m, share of the average that stays, from 0 to less than 1.
        interval: steps between two moves of the average; as many as an epoch has, where a paper moves it by epochs. A
            move is made by the step that follows: what the last epoch has learned is not in the average.
        unsafe: see `densekd.checkpoint.read`.
        data_preprocessor: that of mmdet's `MultiBranchDataPreprocessor` around the detector's if not given.

    Raises:
        TypeError, ValueError: an unknown or impossible option; a detector of masks, or without a preprocessor; a batch
            has other branches; images without labels alone, and no weights.

    Paper: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017. For detectors this is the
    baseline of `densekd.LPLD` and `densekd.WSCoL`.

    >>> MeanTeacher.DEFAULTS["cls_pseudo_thr"]
    0.7
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "freeze_teacher": True,
        "sup_weight": 1.0,
        "unsup_weight": 1.0,
        "cls_pseudo_thr": 0.7,
        "min_pseudo_bbox_wh": (1e-2, 1e-2),
    }
    SHARES: ClassVar[tuple[str, ...]] = ("cls_pseudo_thr",)
    """Options from 0 to 1."""

    student: Any
    teacher: Any
    checkpoint: str | Path | None
    unsafe: bool
    momentum: float
    interval: int
    steps: Tensor
    _blank: bool

    def __init__(
        self,
        detector: Any,
        semi_train_cfg: Mapping[str, Any] | None = None,
        semi_test_cfg: Mapping[str, Any] | None = None,
        *,
        checkpoint: str | Path | None = None,
        momentum: float = 0.999,
        interval: int = 1,
        unsafe: bool = False,
        data_preprocessor: Any = None,
    ) -> None:
        if isinstance(momentum, bool) or not isinstance(momentum, Real) or not 0 <= momentum < 1:
            raise ValueError(f"{self._called}: momentum must be a number from 0 to less than 1, got {momentum!r}")
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f"{self._called}: interval must be a number of steps, at least 1, got {interval!r}")
        if isinstance(detector, str | Path):
            whole = read_config(detector)
            detector, checkpoint = whole.get("model"), checkpoint or whole.get("load_from")
        if not isinstance(detector, Mapping) or "type" not in detector:
            raise TypeError(f"{self._called}: detector= must be the config of a model, or its path, got {detector!r}")
        plain = plain_model(detector)
        if not data_preprocessor:
            own = plain.get("data_preprocessor")
            if own is None:
                raise ValueError(f"{self._called}: the detector has no data_preprocessor, and none is given beside it")
            data_preprocessor = {"type": "MultiBranchDataPreprocessor", "data_preprocessor": own}
        with DefaultScope.overwrite_default_scope("mmdet"):
            super().__init__(
                detector=plain,
                semi_train_cfg=_Options(self._checked(semi_train_cfg or {})),
                semi_test_cfg=_Options(self._checked_test(semi_test_cfg or {})),
                data_preprocessor=data_preprocessor,
            )
            if getattr(self.teacher, "with_mask", False) or hasattr(self.teacher, "panoptic_head"):
                raise ValueError(
                    f"{self._called}: a {type(self.teacher).__name__} learns from masks, but pseudo labels are boxes: "
                    "take a detector of boxes alone"
                )
            if plain is not detector:
                self.student = MODELS.build(detector)
        self.momentum, self.interval = float(momentum), interval
        self.checkpoint, self.unsafe = checkpoint, unsafe
        self._blank = False
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def _called(self) -> str:
        return f"densekd.{type(self).__name__}"

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        check_known(f"semi_train_cfg of {self._called}", options, self.DEFAULTS)
        found = {**self.DEFAULTS, **options}
        if found["freeze_teacher"] is not True:
            raise ValueError(f"{self._called}: the teacher is a moving average, freeze_teacher must be True")
        for name, value in found.items():
            like = self.DEFAULTS[name]
            if isinstance(like, bool) and not isinstance(value, bool):
                raise TypeError(f"{self._called}: {name} must be True or False, got {value!r}")
            if isinstance(like, tuple):
                if not isinstance(value, Sequence) or len(value) != 2 or not all(is_number(each) for each in value):
                    raise TypeError(f"{self._called}: {name} must be a width and a height in pixels, got {value!r}")
            elif not isinstance(like, bool):
                share = name in self.SHARES
                if not is_number(value, 1.0 if share else sys.float_info.max):
                    least = "a number from 0 to 1" if share else "a number, at least 0"
                    raise ValueError(f"{self._called}: {name} must be {least}, got {value!r}")
        return found

    def _checked_test(self, options: Mapping[str, Any]) -> dict[str, Any]:
        known = dict.fromkeys(("predict_on", "forward_on", "extract_feat_on"), "teacher")
        check_known(f"semi_test_cfg of {self._called}", options, known)
        for name, value in options.items():
            if value not in ("teacher", "student"):
                raise ValueError(f"{self._called}: {name} must be 'teacher' or 'student', got {value!r}")
        return {**known, **options}

    @property
    def teachers(self) -> Mapping[str, Any]:
        """Those of a `Distiller` that is the detector; a checkpoint keeps the ones that are moving averages."""
        return getattr(self.student, "teachers", {})

    def init_weights(self) -> None:
        """Initialise the student, or load the checkpoint; the teacher starts as its copy."""
        self.student.init_weights()
        self._blank = self.checkpoint is None
        if self.checkpoint is not None and self.checkpoint != "random":
            load_weights(self.teacher, self.checkpoint, self.unsafe)
            self.student.load_state_dict(self.teacher.state_dict(), strict=False)
        move(self.teacher, self.student, 0.0)
        self._is_init = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load weights of this model, or of a plain detector into student and teacher.

        mmdet takes any name with 'teacher' or 'student' in it, such as a part of `fbkd` in a distilled detector, for a
        sign of the first.
        """
        sides = f"{prefix}student.", f"{prefix}teacher."
        if not any(key.startswith(sides) for key in state_dict):
            for key in [key for key in state_dict if key.startswith(prefix)]:
                weight = state_dict.pop(key)
                state_dict.update({f"{side}{key.removeprefix(prefix)}": weight for side in sides})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._blank = False

    def train(self, mode: bool = True) -> MeanTeacher:
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, multi_batch_inputs: Any, multi_batch_data_samples: Any) -> dict[str, Any]:
        """Losses of the images with labels, if there are any, and of those without."""
        inputs, samples = multi_batch_inputs, multi_batch_data_samples
        self._check(inputs)
        if self.training:
            self._follow()
        losses: dict[str, Any] = {}
        if LABELLED in inputs:
            losses.update(self.loss_by_gt_instances(inputs[LABELLED], samples[LABELLED]))
        weak, strong = ([bare(each) for each in samples[branch]] for branch in (WEAK, STRONG))
        pseudo, info = self.get_pseudo_instances(inputs[WEAK], weak)
        strong = self.project_pseudo_instances(pseudo, strong)
        losses.update(self.loss_by_pseudo_instances(inputs[STRONG], strong, info))
        return losses

    def _check(self, inputs: Any) -> None:
        branches = [*inputs] if isinstance(inputs, Mapping) else []
        if not {WEAK, STRONG} <= {*branches} <= {LABELLED, WEAK, STRONG}:
            raise ValueError(
                f"{self._called} needs batches with the branches {WEAK!r} and {STRONG!r}, and {LABELLED!r} for images "
                f"with labels, got {', '.join(map(repr, branches)) or 'none'}: use mmdet's MultiBranch transform and "
                "MultiBranchDataPreprocessor"
            )
        if self._blank and LABELLED not in branches:
            raise ValueError(
                f"{self._called}: no image has labels, and the detector has no weights that it could be adapted from: "
                "give checkpoint=..., or 'random' for an untrained one"
            )

    def _follow(self) -> None:
        """Move the teacher towards the student, which has taken a step since."""
        steps = int(self.steps)
        if steps and steps % self.interval == 0:
            move(self.teacher, self.student, self.momentum)
        self.steps += 1

    def loss_by_gt_instances(self, batch_inputs: Tensor, batch_data_samples: Samples) -> dict[str, Any]:
        """The student's losses on images with labels, and those of its distillation if it is a `Distiller`."""
        losses = self.student(batch_inputs, batch_data_samples, mode="loss")
        return rename_loss_dict("sup_", reweight_loss_dict(losses, self.semi_train_cfg["sup_weight"]))

    @torch.no_grad()
    def get_pseudo_instances(self, batch_inputs: Tensor, batch_data_samples: Samples) -> tuple[Samples, Any]:
        """What the teacher finds in the weak views, in pixels of the original images."""
        found = self.teacher.predict(batch_inputs, batch_data_samples, rescale=False)
        for sample, each in zip(batch_data_samples, found):
            sample.gt_instances = each.pred_instances
        self._to_original(batch_data_samples)
        return batch_data_samples, None

    def _to_original(self, samples: Samples) -> None:
        for sample in samples:
            boxes = sample.gt_instances.bboxes
            back = homography(sample, boxes).inverse()
            sample.gt_instances.bboxes = projected(boxes, back, sample.ori_shape)

    def project_pseudo_instances(self, batch_pseudo_instances: Samples, batch_data_samples: Samples) -> Samples:
        """Move boxes from the original images to the strong views, and drop what is too small there."""
        for pseudo, sample in zip(batch_pseudo_instances, batch_data_samples):
            sample.gt_instances = copy.deepcopy(pseudo.gt_instances)
            boxes = sample.gt_instances.bboxes
            sample.gt_instances.bboxes = projected(boxes, homography(sample, boxes), sample.img_shape)
        return filter_gt_instances(batch_data_samples, wh_thr=self.semi_train_cfg["min_pseudo_bbox_wh"])

    def loss_by_pseudo_instances(
        self, batch_inputs: Tensor, batch_data_samples: Samples, batch_info: Any = None
    ) -> dict[str, Any]:
        """The student's losses on pseudo labels of a high score; 0 where no image of the batch has one."""
        return self._pseudo_loss(batch_inputs, batch_data_samples)

    def _pseudo_loss(self, inputs: Tensor, samples: Samples) -> dict[str, Any]:
        samples = filter_gt_instances(samples, score_thr=self.semi_train_cfg["cls_pseudo_thr"])
        count = sum(len(each.gt_instances) for each in samples)
        losses = self.student(inputs, samples, mode="loss")
        weight = self.semi_train_cfg["unsup_weight"] if count else 0.0
        return rename_loss_dict("unsup_", reweight_loss_dict(losses, weight))


class OfProposals(MeanTeacher):
    """Base of those that compare student and teacher on the teacher's proposals, of two-stage detectors.

    After `get_pseudo_instances` a batch comes with `Told`: what the teacher says of its proposals, and where these lie
    in the strong views.

    Raises:
        ValueError: the detector is not of two stages, with a neck and one box head.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not shares_proposals(self.teacher):
            raise ValueError(
                f"{self._called} compares proposals: it is for two-stage detectors with a neck and one box head, such "
                f"as Faster R-CNN, not for {type(self.teacher).__name__}"
            )

    @torch.no_grad()
    def get_pseudo_instances(self, batch_inputs: Tensor, batch_data_samples: Samples) -> tuple[Samples, Told]:
        """What the teacher finds in the weak views, and what it says of its proposals."""
        teacher = self.teacher
        features = teacher.extract_feat(batch_inputs)
        proposals = teacher.rpn_head.predict(features, batch_data_samples, rescale=False)
        found = teacher.roi_head.predict(features, proposals, batch_data_samples, rescale=False)
        for sample, each in zip(batch_data_samples, found):
            sample.gt_instances = each
        pseudo = [each.bboxes[each.scores > self.semi_train_cfg["cls_pseudo_thr"]] for each in found]
        labels = [each.labels[each.scores > self.semi_train_cfg["cls_pseudo_thr"]] for each in found]
        told = Told(self, features, proposals, batch_data_samples, pseudo, labels)
        self._to_original(batch_data_samples)
        return batch_data_samples, told

    def loss_by_pseudo_instances(
        self, batch_inputs: Tensor, batch_data_samples: Samples, batch_info: Any = None
    ) -> dict[str, Any]:
        """The losses on pseudo labels, and those on proposals."""
        with Taps(self.student, [FEATURES]) as taps:
            losses = self._pseudo_loss(batch_inputs, batch_data_samples)
        told = batch_info
        rois = told.in_views(batch_data_samples)
        least = rois.new_tensor(self.semi_train_cfg["min_pseudo_bbox_wh"])
        there = (rois[:, 3:] - rois[:, 1:3] > least).all(1)  # not cut away in the strong view
        rois = rois[there]
        told.keep(there)
        scores, features = asked(self.student, tuple(taps[FEATURES]), rois)
        more = self.loss_by_proposals(scores, features, told)
        return {**losses, **rename_loss_dict("unsup_", reweight_loss_dict(more, self.semi_train_cfg["unsup_weight"]))}

    def loss_by_proposals(self, scores: Tensor, features: Tensor, told: Told) -> dict[str, Tensor]:
        """Losses between the student's class logits `(n, K + 1)` and features `(n, D)` and what the teacher told."""
        raise NotImplementedError


class Told:
    """What a teacher says of its proposals in a batch of weak views.

    Attributes:
        counts: proposals of each image.
        rois: image and corners `(n, 5)`, in pixels of the weak views.
        objectness: of each proposal, `(n,)`, 0 to 1.
        logits: of classes, the last one background, `(n, K + 1)`.
        boxes: as the teacher refines them for their class, the proposal itself where that is background, `(n, 4)`.
        features: before the classifier, `(n, D)`.
        pseudo: boxes of a high score of each image, `(m, 4)`, in pixels of the weak view; labels: their classes.
        levels: what the teacher's RoI head reads, of the weak views.
    """

    def __init__(
        self,
        owner: MeanTeacher,
        levels: Sequence[Tensor],
        proposals: Sequence[InstanceData],
        samples: Samples,
        pseudo: list[Tensor],
        labels: list[Tensor],
    ) -> None:
        teacher: Any = owner.teacher
        self.levels = tuple(levels)
        self.counts = [len(each) for each in proposals]
        self.rois = bbox2roi([each.bboxes for each in proposals])
        self.objectness = torch.cat([each.scores for each in proposals])
        with Taps(teacher, [_INTO_CLASSES]) as taps:
            found = teacher.roi_head._bbox_forward(self.levels, self.rois)
        self.logits, self.features = found["cls_score"], taps[_INTO_CLASSES][0]
        self.boxes = refined(teacher.roi_head.bbox_head, self.rois, self.logits, found["bbox_pred"])
        self.samples, self.pseudo, self.labels = samples, pseudo, labels

    @property
    def images(self) -> Tensor:
        """Which image each proposal is of, `(n,)`."""
        return self.rois[:, 0].long()

    def in_views(self, strong: Samples) -> Tensor:
        """The proposals in pixels of other views of the same images, `(n, 5)`."""
        moved = []
        for boxes, weak, view in zip(self.rois[:, 1:].split(self.counts), self.samples, strong):
            with torch.autocast(boxes.device.type, enabled=False):
                way = homography(view, boxes) @ homography(weak, boxes).inverse()
            moved.append(projected(boxes, way, view.img_shape))
        return torch.cat([self.rois[:, :1], torch.cat(moved)], dim=1)

    def keep(self, rows: Tensor) -> None:
        """Forget the proposals that are not among `rows`, `(n,)` bool."""
        self.counts = [int(each.sum()) for each in rows.split(self.counts)]
        self.rois, self.objectness, self.boxes = self.rois[rows], self.objectness[rows], self.boxes[rows]
        self.logits, self.features = self.logits[rows], self.features[rows]


_INTO_CLASSES = "roi_head.bbox_head.fc_cls:in"


def asked(model: Any, levels: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits `(n, K + 1)` and features `(n, D)` of any proposals."""
    with Taps(model, [_INTO_CLASSES]) as taps:
        found = model.roi_head._bbox_forward(levels, rois)
    return found["cls_score"], taps[_INTO_CLASSES][0]


def refined(head: Any, rois: Tensor, logits: Tensor, deltas: Tensor) -> Tensor:
    """Boxes `(n, 4)` as a box head refines proposals `(n, 5)` for the class of each; background stays as it is."""
    best = logits.argmax(1)
    known = best < head.num_classes
    if not head.reg_class_agnostic:
        rows = torch.arange(len(best), device=best.device)
        deltas = deltas.view(len(best), head.num_classes, deltas.shape[1] // head.num_classes)[
            rows, best.clamp_max(head.num_classes - 1)
        ]
    moved = head.bbox_coder.decode(rois[:, 1:], deltas)
    return moved.where(known[:, None], rois[:, 1:])


def bare(sample: DetDataSample) -> DetDataSample:
    """A sample without any label: the properties of its image, and the transform from the original image to it.

    Raises:
        ValueError: the view is flipped or of another size than the image, and nothing says where its pixels are from.
    """
    found = DetDataSample(metainfo=sample.metainfo)
    if found.get("homography_matrix") is None:
        if found.get("flip") or tuple(found.img_shape[:2]) != tuple(found.ori_shape[:2]):
            view = "a flipped view" if found.get("flip") else "a view"
            raise ValueError(
                f"{view} of {tuple(found.img_shape[:2])} pixels of an image of {tuple(found.ori_shape[:2])} does not "
                "say where its pixels come from: list 'homography_matrix' in the meta_keys of PackDetInputs"
            )
        found.set_metainfo({"homography_matrix": np.eye(3, dtype=np.float32)})
    return found


def homography(sample: DetDataSample, like: Tensor) -> Tensor:
    """The transform `(3, 3)` from the original image to a view, in full precision."""
    return torch.as_tensor(sample.homography_matrix, dtype=full(like).dtype, device=like.device)


def projected(boxes: Tensor, way: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Boxes in another image, cut at its edges if its size is given; in mixed precision they would be pixels off."""
    with torch.autocast(boxes.device.type, enabled=False):
        moved: Tensor = bbox_project(full(boxes), way, size)
    return moved


def is_number(value: Any, most: float = sys.float_info.max) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= most


class _Options(dict[str, Any]):
    """Options that are read as fields, too, as mmdet does."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error
