"""Inputs of losses beside the two taps, resized to the tap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.edges import WIDTH, near_edge, near_outline
from densekd.taps.defaults import is_binary
from densekd.taps.families import head_of
from densekd.taps.reader import Tap
from kdlosses.moved import moved_name
from kdlosses.reduce import labelled
from kdlosses.resized import labels_at

Size = tuple[int, int]
OF_AN_ASSIGNER = ("objects", "valuable")
OF_MASKS = ("masks", "instances")
OF_EDGES = ("boundary", "body")
WHERE = ("labelled", "boxes", *OF_MASKS, *OF_EDGES, "labelled_images", "unlabelled_images", *OF_AN_ASSIGNER)
"""Positions that an entry may restrict its loss to: those with a label that is not ignored; those inside a box; those
that instance masks cover, all alike or each instance alike; those near an outline of an instance or an edge of a label
map, and what is left of the instances or of the labelled area; all of the images with a label that is not ignored, or
of those without any; those to which a detector's own head assigns an object, proposals among them; those near an object
that get none, see `densekd.mmlab.assigned.valuable`."""

OF_A_RUN = ("progress", "epoch")
"""Inputs that are known before the forward pass."""

LOGITS = ("student_logits", "teacher_logits")
"""Class logits of the learning side and of the other, from their default taps, for losses on other taps."""


def weights_of(labels: Tensor, weights: Tensor, ignore_index: int) -> Tensor:
    """The weight of the class of each label, see `LossInputs.by_class`.

    >>> weights_of(torch.tensor([0, 1, 255]), torch.tensor([1.0, 3.0]), 255).tolist()
    [1.0, 3.0, 2.0]
    """
    safe, known = labelled(labels, None, ignore_index, len(weights))
    found = weights.to(labels.device)[safe]
    mean = (found * known).sum() / known.sum().clamp_min(1)
    return found.where(known, mean.where(known.any(), 1.0))


class LossInputs(ABC):
    """Ground truth and training progress of one batch, computed only if a loss needs it.

    A subclass has them: `densekd.mmlab.samples.Context` reads the data samples of OpenMMLab.

    Args:
        image_size: height and width of the padded batch; None where it has no images.
        ignore_index: label of pixels that do not count, 255 if not given.
    """

    LABELS, BOXES, MASKS = "labels", "boxes", "masks"
    """What a batch has them in, for messages."""

    def __init__(self, image_size: Size | None, ignore_index: int | None = None) -> None:
        self.image_size = image_size
        self.ignore_index = 255 if ignore_index is None else ignore_index
        self._pixels: dict[tuple[str, float], list[Tensor]] = {}

    def gather(
        self,
        names: Iterable[str],
        size: tuple[int, ...],
        where: str | None = None,
        rows: int = 0,
        level: int = 0,
        width: float = WIDTH,
    ) -> dict[str, Any]:
        """Return those of `names` that exist for a tap of `size` (height, width); for other taps those of the run.

        `level` is the number of the tap's level. Labels that a detector assigns are those of its priors `(B, A, h, w)`,
        see `densekd.assigned`. `width` is that of the band of `where='boundary'`.
        """
        known = (*OF_A_RUN, *self.of_tap(size, rows))
        names = set(names)
        found: dict[str, Any] = {name: getattr(self, name)(size) for name in names if name in known}
        if "labels" in names and found.get("labels") is None:
            found["labels"] = self.assigned_labels(size, level)
        if where is not None:
            of_priors = where in OF_AN_ASSIGNER
            if len(size) != 2 and not of_priors:
                raise ValueError(f"where={where!r} needs a tap that yields maps (B, C, h, w)")
            if of_priors:
                found["weight"] = self.of_priors(where, size, level)
            else:
                found["weight"] = self.chosen(where, size, rows, width)  # type: ignore[arg-type]
        return {name: value for name, value in found.items() if value is not None}

    def assigned_labels(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Labels that a detector's head assigned to what a tap yields, where there is no label map; else None."""
        return None

    def of_tap(self, size: tuple[int, ...], rows: int) -> tuple[str, ...]:
        """Names of what a tap of `size` and so many `rows` can have."""
        return OF_A_MAP if len(size) == 2 else ()

    def labels(self, size: Size) -> Tensor | None:
        """Class of each position `(B, h, w)`, by nearest neighbour in the label map; ignored pixels stay ignored."""
        maps = self.label_map(size)
        return None if maps is None else labels_at(maps, size)

    @abstractmethod
    def label_map(self, size: Size) -> Tensor | None:
        """Class of each pixel `(B, H, W)`, at the size of the image."""

    def targets(self, size: tuple[int, ...]) -> Tensor | None:
        """Numbers to be predicted `(B, C, *)`, NaN where there are none; None where there are classes."""
        return None

    def told(self, size: tuple[int, ...]) -> Tensor:
        """Positions whose truth is known, `(B, *)` bool."""
        targets = self.targets(size)
        if targets is not None:
            return ~targets.isnan().any(1)
        return self.labelled(size)  # type: ignore[arg-type]

    @abstractmethod
    def boxes(self, size: Size) -> list[Tensor] | None:
        """Boxes of each image `(n, 4)`, xyxy in positions of the tap."""

    def scaled(self, boxes: Iterable[Tensor], size: Size) -> list[Tensor]:
        """Boxes `(n, 4)` in pixels of the image, in positions of the tap."""
        assert self.image_size is not None
        y, x = size[0] / self.image_size[0], size[1] / self.image_size[1]
        # of whole numbers the scale would be 0
        floats = [each if each.is_floating_point() else each.float() for each in boxes]
        return [each * each.new_tensor([x, y, x, y]) for each in floats]

    def boxes_bev(self, size: Size) -> list[Tensor] | None:
        """Boxes on the ground `(n, 5)`: x, y, dx, dy in metres, yaw."""
        return None

    @abstractmethod
    def instances(self) -> list[Tensor] | None:
        """Instance masks of each image `(n, H, W)`, at the size of the image; None for a batch without."""

    @cached_property
    def _instances(self) -> list[Tensor] | None:
        return self.instances()

    def void(self, image: int) -> Tensor | None:
        """Pixels `(H, W)` of an image of which nothing is known, such as padding; None where there are none."""
        return None

    def masks(self, size: Size) -> list[Tensor] | None:
        """Instance masks of each image `(n, h, w)`: the share of each position that the instance covers."""
        masks = self._instances
        return None if masks is None else [_shares(each, size) for each in masks]

    def privacy(self, size: tuple[int, ...]) -> Tensor | None:
        """How private each position is, 0 to 1, `(B, h, w)`: that of its most private pixel."""
        return None

    @abstractmethod
    def progress(self, size: tuple[int, ...]) -> float | None:
        """Share of the training that is done, 0 to 1; None outside of a run."""

    @abstractmethod
    def epoch(self, size: tuple[int, ...]) -> int | None:
        """Current epoch; None where there is none."""

    def chosen(self, where: str, size: Size, rows: int, width: float = WIDTH) -> Tensor:
        """Positions of so many images that an entry is restricted to, `(B, h, w)`; `where` is one of `WHERE`.

        Those of pixels, of `OF_MASKS` and `OF_EDGES`, count by the share of their pixels; of all others it is a bool.
        """
        if where == "boxes":
            return self.inside(size)
        if where == "labelled":
            return self.labelled(size)
        if where in (*OF_MASKS, *OF_EDGES):
            if (where, width) not in self._pixels:  # once for all levels of a tap
                self._pixels[where, width] = self._of_pixels(where, width, size)
            return torch.cat([_shares(each[None], size) for each in self._pixels[where, width]])
        maps = self.label_map(size)
        if maps is None:
            return torch.full((rows, *size), where == "unlabelled_images")
        known = (maps != self.ignore_index).flatten(1).any(1)
        return (known == (where == "labelled_images"))[:, None, None].expand(-1, *size)

    def of_priors(self, where: str, size: tuple[int, ...], level: int) -> Tensor:
        """How much the priors of a detector count at a level of a tap, `(B, A, h, w)`; one of `OF_AN_ASSIGNER`."""
        raise ValueError(f"where={where!r} needs a detector of mmdet whose head assigns labels to its positions")

    def by_class(self, weights: Tensor, size: Size) -> Tensor | None:
        """The weight of the class of each position, `(B, h, w)`; None for a batch without labels.

        A position whose label is ignored counts as one that has a label does in the mean over the batch, 1 where there
        is none.

        Args:
            weights: of each class, `(K,)`.
            size: height and width of the tap.

        Raises:
            ValueError: a label is no class; on a GPU, where each look would wait for the device, torch's own error.
        """
        labels = self.labels(size)
        return None if labels is None else weights_of(labels, weights, self.ignore_index)

    def labelled(self, size: Size) -> Tensor:
        """Positions whose label is not ignored, `(B, h, w)` bool."""
        labels = self.labels(size)
        if labels is None:
            raise ValueError(f"where='labelled' needs {self.LABELS}, which this batch does not have")
        return (labels >= 0) & (labels != self.ignore_index)

    def inside(self, size: Size) -> Tensor:
        """Positions whose centre lies inside a box, `(B, h, w)` bool."""
        boxes = self.boxes(size)
        if boxes is None:
            raise ValueError(f"where='boxes' needs {self.BOXES}, which this batch does not have")
        return torch.stack([_inside(b, size) for b in boxes])

    def _of_pixels(self, where: str, width: float, size: Size) -> list[Tensor]:
        """How much the pixels of each image count, `(H, W)`, where masks or edges choose them.

        Edges are those of instances; those of label maps in a batch without masks.
        """
        if self._instances is None:
            return list(self._of_map(where, width, size))
        masks = [each >= 0.5 for each in self._instances]
        if where == "instances":
            return alike(masks)
        covered = [each.any(0) for each in masks]
        if where == "masks":
            return covered
        bands = [near_outline(each, width, self.void(image)) for image, each in enumerate(masks)]
        return bands if where == "boundary" else [inner & ~band for inner, band in zip(covered, bands)]

    def _of_map(self, where: str, width: float, size: Size) -> Tensor:
        """Which pixels of a batch without masks lie near an edge of its label maps, or do not, `(B, H, W)` bool."""
        if where in OF_MASKS:
            raise ValueError(f"where={where!r} needs {self.MASKS}, which this batch does not have")
        maps = self.label_map(size)
        if maps is None:
            raise ValueError(f"where={where!r} needs {self.MASKS}, or {self.LABELS}; this batch has neither")
        band = near_edge(maps, width, self.ignore_index)
        return band if where == "boundary" else (maps >= 0) & (maps != self.ignore_index) & ~band


OF_A_MAP = ("labels", "label_map", "boxes", "boxes_bev", "masks", "privacy")


def _shares(masks: Tensor, size: Size) -> Tensor:
    """Share of each position that a mask covers, `(n, h, w)`."""
    return F.adaptive_avg_pool2d(masks.float(), size)


def alike(masks: Sequence[Tensor]) -> list[Tensor]:
    """How much each pixel of a batch counts, such that all instances count alike.

    Each counts as much as one of their mean area, a pixel in several as much as it does in all of them. Several
    processes have a batch each.

    Args:
        masks: of the instances of each image `(n, H, W)`, bool; one that covers nothing is left out.

    Returns:
        `(H, W)` for each image.

    >>> [each.tolist() for each in alike([torch.tensor([[[True, True, True, False]], [[False, False, False, True]]])])]
    [[[0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]]]
    """
    areas = [each.flatten(1).sum(1) for each in masks]
    every = torch.cat(areas)
    mean = every.sum() / (every > 0).sum().clamp_min(1)
    return [torch.einsum("n,nhw->hw", mean / area.clamp_min(1), each.float()) for area, each in zip(areas, masks)]


def _inside(boxes: Tensor, size: Size) -> Tensor:
    y = torch.arange(size[0], device=boxes.device).add(0.5).view(1, -1, 1)
    x = torch.arange(size[1], device=boxes.device).add(0.5).view(1, 1, -1)
    x1, y1, x2, y2 = boxes.view(-1, 4, 1, 1).unbind(1)
    return ((x >= x1) & (x < x2) & (y >= y1) & (y < y2)).any(0)


def classes_of(model: Any, tap: str = "") -> tuple[int | None, int | None]:
    """Return the number of classes and the label to ignore, None where the head defines none.

    The head is the one that contains the tap, such as an auxiliary one; else a segmenter's last decode head, or a
    detector's box head. A detector's label to ignore is that of its semantic branch.
    """
    plain = head_of(model)
    if plain is not None:
        classes = 2 if plain.classes == 1 else plain.classes  # one sigmoid
        return classes, getattr(getattr(model, "config", None), "semantic_loss_ignore_index", None)
    around = _head_around(model, tap)
    if hasattr(model, "decode_head"):
        main = _last(model.decode_head)
        head = around or main
        ignored = getattr(head, "ignore_index", getattr(main, "ignore_index", None))
        if getattr(head, "out_channels", None) == 1:  # one sigmoid, two labels; a depth has none
            return (2 if is_binary(head) else None), ignored
        return getattr(head, "num_classes", None), ignored
    roi = getattr(model, "roi_head", None)
    head = getattr(model, "bbox_head", None) or getattr(roi, "bbox_head", None)
    head = _last(head)
    semantic = getattr(model, "semantic_head", None) or getattr(roi, "semantic_head", None)
    ignored = getattr(_of_pixels(semantic), "ignore_index", None)
    if hasattr(head, "rpn_cls"):  # it sets all labels to 0 itself
        return None, ignored
    return getattr(around or head, "num_classes", None), ignored


def class_weight_of(model: Any, tap: str = "") -> list[float] | None:
    """Return how much the cross-entropy of a segmenter's head weighs each class; None where it weighs all alike.

    The head is as for `classes_of`. Of several losses the first that weighs classes counts.
    """
    if not hasattr(model, "decode_head"):
        return None
    head = _head_around(model, tap) or _last(model.decode_head)
    found = getattr(head, "loss_decode", None)
    for loss in found if isinstance(found, nn.ModuleList) else [found]:
        weights = getattr(loss, "class_weight", None)
        if weights is not None and not getattr(loss, "use_sigmoid", False):
            return [float(each) for each in weights]
    return None


def _last(head: Any) -> Any:
    """The last head of a cascade, or the one head."""
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _of_pixels(head: Any) -> Any:
    """The loss on a label map that a head of mmseg or a semantic one of mmdet has."""
    names = ("loss_decode", "loss_seg", "criterion")
    return next((getattr(head, name) for name in names if hasattr(head, name)), None)


def _head_around(model: nn.Module, tap: str) -> Any:
    """The head with a loss on a label map that a tap lies in."""
    names = Tap.parse(tap.partition("+")[0]).path.split(".") if tap else []
    parts = (model.get_submodule(".".join(names[:depth])) for depth in range(len(names), 0, -1))
    return next((part for part in parts if _of_pixels(part) is not None), None)


_MOVED = {name: f"densekd.mmlab.samples.{name}" for name in ("Context", "check_labels", "label_map_of")}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
