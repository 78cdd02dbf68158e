"""Inputs of losses beside the two taps, from the data samples of OpenMMLab; checks of their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from torch import Tensor, nn

from densekd.context import LossInputs, Size, classes_of
from densekd.mmlab.assigned import Assigned
from densekd.mmlab.proposals import Rows
from densekd.sensors.geometry import on_the_ground
from densekd.taps.defaults import is_segmenter


class Context(LossInputs):
    """Ground truth and training progress of one batch, computed only if a loss needs it.

    Args:
        samples: the batch's data samples, as mmseg (`gt_sem_seg`) and mmdet (`gt_instances`) make them; for losses that
            hide what is private, with `gt_privacy`, a PixelData of how private each pixel is, 0 to 1.
        image_size: height and width of the padded batch; None where it has no images.
        ignore_index: label of pixels that do not count, 255 if not given.
        voxels: the voxels of a batch of mmdet3d, where it has any.
    """

    LABELS, BOXES = "gt_sem_seg", "gt_instances with bboxes"
    MASKS = "gt_instances with masks (LoadAnnotations with_mask=True)"

    def __init__(
        self,
        samples: Sequence[Any],
        image_size: Size | None,
        ignore_index: int | None = None,
        voxels: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(image_size, ignore_index)
        self.samples = samples
        self.voxels = voxels or {}
        self.assigned: Assigned | Rows | None = None  # of the student's forward, once it has run

    def assigned_labels(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Labels that the student's head assigned in this step."""
        return None if self.assigned is None else self.assigned.at(size, level)

    def of_tap(self, size: tuple[int, ...], rows: int) -> tuple[str, ...]:
        """A tap without a size, with as many rows as the batch has voxels, is a tap of voxels."""
        of_voxels = not size and rows == len(self.voxels.get("coors", ())) > 0
        return ("batch", "point_counts") if of_voxels else super().of_tap(size, rows)

    def of_priors(self, where: str, size: tuple[int, ...], level: int) -> Tensor:
        """How much the priors of a detector count, `(B, A, h, w)`, by what its head assigned in this step.

        Of a tap of proposals `(N,)`.
        """
        found = None
        if self.assigned is not None and where == "objects":
            found = self.assigned.objects(size, level)
        elif isinstance(self.assigned, Assigned):
            found = self.assigned.valuable(size, level)
        if found is None:
            raise ValueError(f"where={where!r} needs a tap of as many positions as a level of the head has, not {size}")
        return found

    def label_map(self, size: Size) -> Tensor | None:
        """Class of each pixel `(B, H, W)`, at the size of the image; a sample without a map is ignored."""
        maps = [label_map_of(sample) for sample in self.samples]
        found = [each for each in maps if each is not None]
        if not found:
            return None
        shapes = {tuple(each.shape) for each in found}
        if len(shapes) > 1:
            raise ValueError(
                f"the label maps of a batch have {' and '.join(map(_pixels, sorted(shapes)))} pixels: pad them as "
                "the images, with pad_seg=True in mmdet's DetDataPreprocessor"
            )
        none = torch.full_like(found[0], self.ignore_index)
        return torch.stack([none if each is None else each for each in maps])

    def boxes(self, size: Size) -> list[Tensor] | None:
        """Boxes of each image `(n, 4)`, xyxy in positions of the tap; none in a sample without instances."""
        boxes = self._of_instances("bboxes")
        if self.image_size is None or boxes is None:
            return None
        found = [getattr(each, "tensor", each) for each in boxes if each is not None]
        wrong = [each for each in found if each.ndim != 2 or each.shape[1] != 4]
        if wrong:
            raise ValueError(f"boxes must be corners x1, y1, x2, y2 `(n, 4)`, this batch has {tuple(wrong[0].shape)}")
        none = found[0].new_zeros(0, 4)
        return self.scaled((none if each is None else getattr(each, "tensor", each) for each in boxes), size)

    def _of_instances(self, key: str) -> list[Any] | None:
        """A field of the instances of each sample, None in a sample without; None where no sample has it."""
        instances = [sample.gt_instances if "gt_instances" in sample else {} for sample in self.samples]
        found = [each.get(key) if key in each else None for each in instances]
        return None if all(each is None for each in found) else found

    def boxes_bev(self, size: Size) -> list[Tensor] | None:
        """Boxes on the ground `(n, 5)`: x, y, dx, dy in metres, yaw; boxes without a class are left out."""
        if not all("gt_instances_3d" in sample and "bboxes_3d" in sample.gt_instances_3d for sample in self.samples):
            return None
        return [_boxes_bev(sample) for sample in self.samples]

    def instances(self) -> list[Tensor] | None:
        """Instance masks of each image `(n, H, W)` bool, padded as the batch; none in a sample without instances."""
        found = self._of_instances("masks")
        if self.image_size is None or found is None:
            return None
        for sample, masks in zip(self.samples, found):
            if masks is None and len(sample.get("gt_instances", ())):
                raise ValueError(f"the instances in {_place(sample)} have no masks, but others of the batch have")
        return [self._padded(masks, sample) for masks, sample in zip(found, self.samples)]

    def void(self, image: int) -> Tensor | None:
        """Pixels of an image that are padding or in an instance that is to be ignored, such as a crowd."""
        sample = self.samples[image]
        ignored = sample.ignored_instances if "ignored_instances" in sample else {}
        found = self._padded(ignored.get("masks") if "masks" in ignored else None, sample).any(0)
        height, width = sample.metainfo.get("img_shape", found.shape)[:2]
        found[height:] = found[:, width:] = True
        return found

    def _padded(self, masks: Any, sample: Any) -> Tensor:
        """Masks of an image `(n, H, W)` bool, at the size of the padded batch; of None none."""
        assert self.image_size is not None
        device = next((each.device for each in self._tensors()), torch.device("cpu"))
        if masks is None:
            return torch.zeros(0, *self.image_size, dtype=torch.bool, device=device)
        full = masks.bool() if isinstance(masks, Tensor) else masks.to_tensor(torch.bool, device)
        bottom, right = (whole - own for whole, own in zip(self.image_size, full.shape[-2:]))
        if min(bottom, right) < 0:
            raise ValueError(
                f"the masks in {_place(sample)} have {_pixels(full.shape[-2:])} pixels, its image "
                f"{_pixels(self.image_size)} after padding: every transform of the pipeline that resizes the image "
                "must resize the masks as well"
            )
        return F.pad(full, (0, right, 0, bottom))

    def privacy(self, size: tuple[int, ...]) -> Tensor | None:
        """How private each position is, 0 to 1, `(B, h, w)`; a sample without a map is refused beside one that has."""
        maps = [sample.gt_privacy.data.float() for sample in self.samples if "gt_privacy" in sample]
        if not maps:
            return None
        if len(maps) < len(self.samples):
            raise ValueError(f"{len(self.samples) - len(maps)} of {len(self.samples)} samples have no gt_privacy")
        return F.adaptive_max_pool2d(torch.stack([each.reshape(1, *each.shape[-2:]) for each in maps]), size)[:, 0]

    def _tensors(self) -> Iterable[Tensor]:
        """Tensors of the instances; masks of mmdet are arrays, which are on no device."""
        for sample in self.samples:
            for value in sample.gt_instances.values() if "gt_instances" in sample else ():
                tensor = getattr(value, "tensor", value)
                if isinstance(tensor, Tensor):
                    yield tensor

    def batch(self, size: Size) -> Tensor:
        """Sample of each voxel `(P,)`."""
        return self.voxels["coors"][:, 0].long()

    def point_counts(self, size: Size) -> Tensor | None:
        """Points in each voxel `(P,)`; None for dynamic voxels, which have no limit of points."""
        return self.voxels.get("num_points")

    def progress(self, size: tuple[int, ...]) -> float | None:
        """Share of the training that is done, 0 to 1; None outside of a run."""
        hub = MessageHub.get_current_instance()
        iteration, last = hub.get_info("iter"), hub.get_info("max_iters")
        return None if iteration is None or not last else iteration / last

    def epoch(self, size: tuple[int, ...]) -> int | None:
        """Current epoch; None outside of a run, and in a run by iterations, a single epoch for mmengine."""
        hub = MessageHub.get_current_instance()
        return None if hub.get_info("max_epochs") == 1 else hub.get_info("epoch")


def _boxes_bev(sample: Any) -> Tensor:
    instances = sample.gt_instances_3d
    boxes = instances.bboxes_3d
    if getattr(boxes, "YAW_AXIS", 2) != 2:
        raise ValueError(
            f"the 3D boxes in {_place(sample)} are {type(boxes).__name__}, in the frame of the camera; a bird's-eye "
            "view needs boxes in the frame of its map: set box_type_3d='LiDAR' in the data set"
        )
    labels = instances.get("labels_3d")
    boxes = on_the_ground(boxes)
    return boxes if labels is None else boxes[labels >= 0]


def label_map_of(sample: Any) -> Tensor | None:
    """Class of each pixel `(H, W)`: `gt_sem_seg.data` of mmseg, `gt_sem_seg.sem_seg` of mmdet; None without either."""
    maps: Any = sample.gt_sem_seg if "gt_sem_seg" in sample else {}
    key = next((key for key in ("data", "sem_seg") if key in maps), None)
    return None if key is None else maps.get(key).reshape(maps.get(key).shape[-2:])


def check_labels(model: nn.Module, samples: Iterable[Any], size: Sequence[int] | None = None) -> None:
    """Raise `ValueError` if a label is not a class of the model; CUDA would fail without the reason.

    For segmenters these are the labels of pixels, for detectors those of boxes: a semantic map beside boxes has other
    classes. A segmenter's label maps must hold integers, and have the `size` of the padded batch if that is given:
    mmseg silently resizes the logits to a label map of another size.
    """
    samples = list(samples)
    pixels = is_segmenter(model)
    for sample in samples if pixels else ():
        labels = label_map_of(sample)
        if labels is not None:
            _check_map(sample, labels, size)
    classes, ignored = classes_of(model)
    if classes is None:
        return
    ignored = ignored if pixels else None
    of = label_map_of if pixels else _box_labels
    labels_of = [(sample, found) for sample in samples if (found := of(sample)) is not None and found.numel()]
    wrong = [((found < 0) | (found >= classes)) & (found != ignored) for _, found in labels_of]
    if not wrong or not torch.stack([each.any() for each in wrong]).any():  # one wait for the device, not one a sample
        return
    sample, found, outside = next((s, found, each) for (s, found), each in zip(labels_of, wrong) if each.any())
    strange = sorted(found[outside].unique().tolist())[:5]
    raise ValueError(
        f"labels {strange} in {_place(sample)} are out of range: the student has classes 0 to {classes - 1}"
        + ("" if ignored is None else f" and {ignored} to ignore")
    )


def _check_map(sample: Any, labels: Tensor, size: Sequence[int] | None) -> None:
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"the labels in {_place(sample)} are {labels.dtype}, but classes are integers: use torch.int64, as "
            "PackSegInputs does"
        )
    if size is not None and tuple(labels.shape[-2:]) != tuple(size):
        shapes = [_pixels(shape) for shape in (labels.shape[-2:], size)]
        raise ValueError(
            f"the label map in {_place(sample)} has {shapes[0]} pixels, its image {shapes[1]} after padding: every "
            "transform of the pipeline that resizes the image must resize the label map as well"
        )


def _pixels(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _place(sample: Any) -> str:
    return sample.metainfo.get("seg_map_path") or sample.metainfo.get("img_path", "a batch")


def _box_labels(sample: Any) -> Tensor | None:
    return sample.gt_instances.get("labels") if "gt_instances" in sample else None
