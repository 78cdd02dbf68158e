"""What a loss may ask for beside the two taps, taken from the batch and brought to the size of the tap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from torch import Tensor, nn

from densekd.bev.geometry import on_the_ground

Size = tuple[int, int]
WHERE = ("labelled", "boxes")
"""Positions that an entry may restrict its loss to: those with a label that is not ignored; those inside a box."""

OF_A_RUN = ("progress", "epoch")
"""What is known before a batch has passed through a model."""

LOGITS = ("student_logits", "teacher_logits")
"""Class logits of the one that learns and of the other, from their natural taps, for losses on other taps."""


class Context:
    """Ground truth and training progress of one batch, computed only as far as losses ask for it.

    Args:
        samples: the batch's data samples, as mmseg (`gt_sem_seg`) and mmdet (`gt_instances`) make them.
        image_size: height and width of the padded batch; None where it has no images.
        ignore_index: label of pixels that do not count, 255 if not given.
        voxels: the voxels of a batch of mmdet3d, where it has any.
    """

    def __init__(
        self,
        samples: Sequence[Any],
        image_size: Size | None,
        ignore_index: int | None = None,
        voxels: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.samples = samples
        self.image_size = image_size
        self.ignore_index = 255 if ignore_index is None else ignore_index
        self.voxels = voxels or {}

    def gather(
        self, names: Iterable[str], size: tuple[int, ...], where: str | None = None, rows: int = 0
    ) -> dict[str, Any]:
        """Return those of `names` that this batch has, for a tap of `size` (height, width); of any other the run's.

        A tap without a size that yields as many rows as the batch has voxels is one of voxels.
        """
        of_voxels = not size and rows == len(self.voxels.get("coors", ())) > 0
        of_tap = _OF_A_MAP if len(size) == 2 else _OF_VOXELS if of_voxels else ()
        known = (*OF_A_RUN, *of_tap)
        found: dict[str, Any] = {name: getattr(self, name)(size) for name in names if name in known}
        if where is not None:
            if len(size) != 2:
                raise ValueError(f"where={where!r} needs a tap that yields maps (B, C, h, w)")
            found["weight"] = self.inside(size) if where == "boxes" else self.labelled(size)
        return {name: value for name, value in found.items() if value is not None}

    def labels(self, size: Size) -> Tensor | None:
        """Class of each position `(B, h, w)`: nearest of the label map, so that ignored pixels stay ignored ones."""
        maps = self.label_map(size)
        return None if maps is None else F.interpolate(maps[:, None].float(), size=size, mode="nearest")[:, 0].long()

    def label_map(self, size: Size) -> Tensor | None:
        """Class of each pixel `(B, H, W)`, whatever the size of the tap."""
        if not all("gt_sem_seg" in sample for sample in self.samples):
            return None
        return torch.stack([sample.gt_sem_seg.data[0] for sample in self.samples])

    def boxes(self, size: Size) -> list[Tensor] | None:
        """Boxes of each image `(n, 4)`, xyxy in positions of the tap."""
        has_boxes = all("gt_instances" in sample and "bboxes" in sample.gt_instances for sample in self.samples)
        if self.image_size is None or not has_boxes:
            return None
        y, x = size[0] / self.image_size[0], size[1] / self.image_size[1]
        boxes = [getattr(b, "tensor", b) for b in (sample.gt_instances.bboxes for sample in self.samples)]
        return [b * b.new_tensor([x, y, x, y]) for b in boxes]

    def boxes_bev(self, size: Size) -> list[Tensor] | None:
        """Boxes on the ground `(n, 5)`: x, y, dx, dy in metres, yaw; those of no class are left out."""
        if not all("gt_instances_3d" in sample and "bboxes_3d" in sample.gt_instances_3d for sample in self.samples):
            return None
        return [_boxes_bev(sample) for sample in self.samples]

    def masks(self, size: Size) -> list[Tensor] | None:
        """Instance masks of each image `(n, h, w)`: the share of each position that the instance covers."""
        has_masks = all("gt_instances" in sample and "masks" in sample.gt_instances for sample in self.samples)
        if self.image_size is None or not has_masks:
            return None
        masks = []
        for instances in (sample.gt_instances for sample in self.samples):
            full = instances.masks.to_tensor(torch.float32, instances.bboxes.device)
            bottom, right = (whole - own for whole, own in zip(self.image_size, full.shape[-2:]))
            masks.append(F.adaptive_avg_pool2d(F.pad(full, (0, right, 0, bottom)), size))
        return masks

    def batch(self, size: Size) -> Tensor:
        """Sample of each voxel `(P,)`."""
        return self.voxels["coors"][:, 0].long()

    def point_counts(self, size: Size) -> Tensor | None:
        """Points in each voxel `(P,)`; None where voxels take in as many as there are."""
        return self.voxels.get("num_points")

    def progress(self, size: Size) -> float | None:
        """Share of the training that is done, 0 to 1; None outside of a run."""
        hub = MessageHub.get_current_instance()
        iteration, last = hub.get_info("iter"), hub.get_info("max_iters")
        return None if iteration is None or not last else iteration / last

    def epoch(self, size: Size) -> int | None:
        """Current epoch; None outside of a run, and in one of iterations, which mmengine takes for a single epoch."""
        hub = MessageHub.get_current_instance()
        return None if hub.get_info("max_epochs") == 1 else hub.get_info("epoch")

    def labelled(self, size: Size) -> Tensor:
        """Positions whose label counts, `(B, h, w)` bool."""
        labels = self.labels(size)
        if labels is None:
            raise ValueError("where='labelled' needs gt_sem_seg, which this batch does not have")
        return labels != self.ignore_index

    def inside(self, size: Size) -> Tensor:
        """Positions whose centre lies inside a box, `(B, h, w)` bool."""
        boxes = self.boxes(size)
        if boxes is None:
            raise ValueError("where='boxes' needs gt_instances with bboxes, which this batch does not have")
        return torch.stack([_inside(b, size) for b in boxes])


_OF_A_MAP = ("labels", "label_map", "boxes", "boxes_bev", "masks")
_OF_VOXELS = ("batch", "point_counts")


def _boxes_bev(sample: Any) -> Tensor:
    instances = sample.gt_instances_3d
    boxes = instances.bboxes_3d
    if getattr(boxes, "YAW_AXIS", 2) != 2:
        raise ValueError(
            f"the 3D boxes in {_place(sample)} are {type(boxes).__name__}, turned about the camera's vertical axis; a "
            "bird's-eye view needs boxes in the frame of its map: box_type_3d='LiDAR' in the data set"
        )
    labels = instances.get("labels_3d")
    boxes = on_the_ground(boxes)
    return boxes if labels is None else boxes[labels >= 0]


def _inside(boxes: Tensor, size: Size) -> Tensor:
    y = torch.arange(size[0], device=boxes.device).add(0.5).view(1, -1, 1)
    x = torch.arange(size[1], device=boxes.device).add(0.5).view(1, 1, -1)
    x1, y1, x2, y2 = boxes.view(-1, 4, 1, 1).unbind(1)
    return ((x >= x1) & (x < x2) & (y >= y1) & (y < y2)).any(0)


def check_labels(model: nn.Module, samples: Iterable[Any], size: Sequence[int] | None = None) -> None:
    """Raise `ValueError` if a label of the batch is no class of the model; CUDA would only say that it failed.

    Label maps have whole numbers, and the `size` of the padded batch where that is given: mmseg would fit the logits to
    a map of any other, and nobody would hear of it.
    """
    samples = list(samples)
    for sample in samples:
        if "gt_sem_seg" in sample:
            _check_map(sample, sample.gt_sem_seg.data, size)
    classes, ignored = classes_of(model)
    if classes is None:
        return
    labels = [(sample, found) for sample in samples if (found := _labels(sample)) is not None and found.numel()]
    wrong = [((found < 0) | (found >= classes)) & (found != ignored) for _, found in labels]
    if not wrong or not torch.stack([each.any() for each in wrong]).any():  # one wait for the device, not one a sample
        return
    sample, found, outside = next((s, found, each) for (s, found), each in zip(labels, wrong) if each.any())
    strange = sorted(found[outside].unique().tolist())[:5]
    raise ValueError(
        f"labels {strange} in {_place(sample)} are out of range: the student has classes 0 to {classes - 1}"
        + ("" if ignored is None else f" and {ignored} to ignore")
    )


def _check_map(sample: Any, labels: Tensor, size: Sequence[int] | None) -> None:
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"the labels in {_place(sample)} are {labels.dtype}, classes are whole numbers: torch.int64, as "
            "PackSegInputs makes them"
        )
    if size is not None and tuple(labels.shape[-2:]) != tuple(size):
        shapes = [" x ".join(map(str, shape)) for shape in (labels.shape[-2:], size)]
        raise ValueError(
            f"the label map in {_place(sample)} has {shapes[0]} pixels, its image {shapes[1]} as it was padded: every "
            "transform of the pipeline that changes the size must change both"
        )


def _place(sample: Any) -> str:
    return sample.metainfo.get("seg_map_path") or sample.metainfo.get("img_path", "a batch")


def classes_of(model: Any) -> tuple[int | None, int | None]:
    """Return the number of classes and the label to ignore, as far as the model's head tells."""
    if hasattr(model, "decode_head"):
        head = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head
        binary = getattr(head, "out_channels", None) == 1  # one sigmoid, two labels
        return 2 if binary else getattr(head, "num_classes", None), getattr(head, "ignore_index", None)
    head = getattr(model, "bbox_head", None) or getattr(getattr(model, "roi_head", None), "bbox_head", None)
    return getattr(head, "num_classes", None), None


def _labels(sample: Any) -> Tensor | None:
    if "gt_sem_seg" in sample:
        return sample.gt_sem_seg.data
    return sample.gt_instances.get("labels") if "gt_instances" in sample else None
