"""What the dense head of a detector assigns to its priors while it computes its losses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from densekd.taps.queries import kind_of
from densekd.taps.replaced import replaced

_OF_AN_IMAGE = "_get_targets_single"
"""What YOLOX calls for each image; it has no `get_targets`."""
_OF_ANCHORS = ("anchor_list", "valid_flag_list", "batch_gt_instances")
"""What the targets of a head with anchors are made of."""
TOPK = 9
"""Candidates of a box in a level, where the assigner does not say how many: those of ATSS."""


def assigns(model: Any) -> bool:
    """Whether a model is a detector whose dense head has a method that assigns labels, see `Assigned`."""
    return _method_of(getattr(model, "bbox_head", None)) is not None


def has_anchors(model: Any) -> bool:
    """Whether `assigns` holds and the head assigns labels to anchors, which are boxes."""
    return assigns(model) and {*_OF_ANCHORS} <= {*_asked_of(model.bbox_head).parameters}


def _asked_of(head: Any) -> inspect.Signature:
    """Arguments of the method that assigns, with the head itself in front."""
    return inspect.signature(getattr(type(head), str(_method_of(head))))


def _method_of(head: Any) -> str | None:
    dense = isinstance(head, nn.Module) and hasattr(head, "loss_by_feat") and hasattr(head, "cls_out_channels")
    dense = dense and kind_of(head) is None  # what it assigns is of queries, not of positions
    return next((name for name in ("get_targets", _OF_AN_IMAGE) if dense and hasattr(head, name)), None)


class Assigned:
    """Context manager that records the labels which a one-stage detector assigns to its priors in one forward.

    They are those of its own assigner, from its own predictions where it reads these: nothing is assigned twice. Of
    several calls, as RepPoints makes for its two stages, the last counts: it is that of the classes.

    Args:
        model: for which `assigns` holds; it runs in `mode='loss'`.

    Attributes:
        levels: class of each prior `(B, A, h, w)`, level by level; K, after the last class, is background, -1 is
            ignored. The head has a sigmoid a class, so that its background is 0 in all of them.

    Raises:
        ValueError: the head returns its targets in another form.
    """

    levels: list[Tensor]

    def __init__(self, model: Any) -> None:
        self._head: Any = model.bbox_head
        self._name = str(_method_of(self._head))
        self._asked: Mapping[str, Any] = {}
        self._near: list[Tensor] | None = None
        self.levels = []

    def __enter__(self) -> Assigned:
        targets, losses = getattr(self._head, self._name), self._head.loss_by_feat
        calls: list[Any] = []

        def recorded(*args: Any, **kwargs: Any) -> Any:
            calls.append(targets(*args, **kwargs))
            self._asked = _asked_of(self._head).bind(self._head, *args, **kwargs).arguments
            return calls[-1]

        def sized(scores: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
            calls.clear()
            found = losses(scores, *args, **kwargs)
            self.levels = self._read(calls, scores)
            return found

        self._replaced = replaced(self._head, {self._name: recorded, "loss_by_feat": sized})
        self._replaced.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replaced.__exit__(kind, error, trace)

    def _read(self, calls: list[Any], scores: Sequence[Tensor]) -> list[Tensor]:
        cells = [each.shape[-2] * each.shape[-1] for each in scores]
        images = len(scores[0])
        if self._name == _OF_AN_IMAGE:
            each = torch.stack([_of_image(call, self._head.num_classes) for call in calls])
            labels = each.split([count * each.shape[1] // sum(cells) for count in cells], 1)
        else:
            labels = _of_levels(calls[-1]) if calls else []
        if len(labels) != len(cells) or any(each.numel() % (images * count) for each, count in zip(labels, cells)):
            raise ValueError(
                f"{type(self._head).__name__} returns its targets in a form that is not known: losses that read "
                "labels of a detector's positions do not run on it"
            )
        return [each.reshape(images, *level.shape[-2:], -1).permute(0, 3, 1, 2) for each, level in zip(labels, scores)]

    def at(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Labels of a tap's level of a height and width `(B, A, h, w)`; None where the head has no such level.

        `level` tells apart levels of one size.
        """
        place = self._place(size, level)
        return None if place is None else self.levels[place]

    def objects(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Which priors have an object, `(B, A, h, w)` bool; None where the head has no such level."""
        labels = self.at(size, level)
        return None if labels is None else (labels >= 0) & (labels < self._head.num_classes)

    def valuable(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """How much the priors near an object count that have none, `(B, A, h, w)`, see the function `valuable`."""
        place = self._place(size, level)
        if place is None:
            return None
        if self._near is None:
            self._near = self._valuable()
        return self._near[place].where(~self.objects(size, level), 0)  # type: ignore[operator]

    def _place(self, size: tuple[int, ...], level: int) -> int | None:
        fits = [i for i, each in enumerate(self.levels) if each.shape[2:] == torch.Size(size)]
        return (level if level in fits else fits[0]) if fits else None

    def _valuable(self) -> list[Tensor]:
        counts = [each[0].numel() for each in self.levels]
        topk = getattr(getattr(self._head, "assigner", None), "topk", TOPK)
        images = []
        for anchors, flags, truth in zip(*(self._asked[name] for name in _OF_ANCHORS)):
            anchors, flags = (torch.cat(list(each)) if isinstance(each, list) else each for each in (anchors, flags))
            valid = flags.bool()
            there = [int(each.sum()) for each in valid.split(counts)]
            boxes = getattr(truth.bboxes, "tensor", truth.bboxes)
            found = anchors.new_zeros(len(anchors))
            found[valid] = valuable(getattr(anchors, "tensor", anchors)[valid], there, boxes, topk)
            images.append(found)
        levels = torch.stack(images).split(counts, 1)
        shapes = [each.permute(0, 2, 3, 1).shape for each in self.levels]
        return [each.reshape(shape).permute(0, 3, 1, 2) for each, shape in zip(levels, shapes)]


def valuable(anchors: Tensor, counts: Sequence[int], boxes: Tensor, topk: int = TOPK, lowest: float = 0.25) -> Tensor:
    r"""The valuable region around objects: anchors near a box, by how much they overlap it.

    $$ v_i = \max_b \, \mathrm{IoU}_{ib} \, [\, \alpha t_b \le \mathrm{DIoU}_{ib} < t_b \,], \qquad
       t_b = \mathrm{mean}_{j \in N_b} \mathrm{IoU}_{jb} + \mathrm{std}_{j \in N_b} \mathrm{IoU}_{jb} $$

    with $N_b$ the `topk` anchors of each level whose centres are nearest to that of box b, and
    $\mathrm{DIoU} = \mathrm{IoU} - d^2 / c^2$, d the distance of the two centres and c the diagonal of the smallest box
    around both. $t_b$ is the bound above which the assigner of ATSS gives an anchor the object.

    Args:
        anchors: `(P, 4)`, level by level, corners x1, y1, x2, y2.
        counts: anchors of each level.
        boxes: of the objects `(n, 4)`; none: 0 everywhere.
        topk: candidates of a box in each level.
        lowest: $\alpha$.

    Returns:
        `(P,)`, 0 to 1.

    Paper: Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022.
    """
    if not len(boxes) or not len(anchors):
        return anchors.new_zeros(len(anchors))
    from mmdet.structures.bbox import bbox_overlaps

    boxes = boxes.to(anchors)
    iou = bbox_overlaps(anchors, boxes)
    apart = ((anchors[:, None, :2] + anchors[:, None, 2:]) - (boxes[None, :, :2] + boxes[None, :, 2:])).div(2)
    apart = apart.square().sum(2)
    around = torch.maximum(anchors[:, None, 2:], boxes[None, :, 2:])
    around = around - torch.minimum(anchors[:, None, :2], boxes[None, :, :2])
    diou = iou - apart / around.square().sum(2).clamp_min(torch.finfo(iou.dtype).tiny)
    near, start = [], 0
    for count in counts:
        near.append(apart[start : start + count].topk(min(topk, count), 0, largest=False).indices + start)
        start += count
    candidates = iou.gather(0, torch.cat(near))
    bound = candidates.mean(0) + (candidates.std(0) if len(candidates) > 1 else 0)
    return iou.where((diou >= lowest * bound) & (diou < bound), 0).amax(1)


def _of_levels(targets: Any) -> list[Tensor]:
    """Labels of each level: the first list of whole numbers in what `get_targets` returns; -1 where a weight is 0."""
    lists = [each for each in targets if isinstance(each, list | tuple) and each and isinstance(each[0], Tensor)]
    place = next((i for i, each in enumerate(lists) if not each[0].is_floating_point()), None)
    if place is None:
        return []
    labels, after = lists[place], lists[place + 1 : place + 2]
    if not after or any(weight.shape != each.shape for weight, each in zip(after[0], labels)):
        return list(labels)  # every one counts
    return [each.where(weight > 0, -1) for each, weight in zip(labels, after[0])]


def _of_image(targets: Any, classes: int) -> Tensor:
    """Labels of the priors of an image of YOLOX, of which the targets are those of its positive ones."""
    positive, of_classes = targets[0], targets[1]
    labels = positive.new_full(positive.shape, classes, dtype=torch.long)
    told = of_classes.argmax(1).where(of_classes.sum(1) > 0, classes)  # of an overlap of 0 no class is asked for
    labels[positive] = told
    return labels
