"""Inputs of losses beside the two taps, as the caller of a plain model hands them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from densekd.context import OF_A_MAP, OF_A_RUN, LossInputs, Size
from kdlosses import nearest
from kdlosses.taps import tensors_in

OF_ROWS = ("labels", "batch", "point_counts", "edge_index", "privacy")
KEYS = tuple(dict.fromkeys((*OF_A_MAP, *OF_ROWS, *OF_A_RUN, "targets")))
"""What a context may hold."""


class Given(LossInputs):
    """Ground truth and training progress of one batch, from plain tensors.

    Args:
        context: any of `KEYS`. `labels`: classes of pixels `(B, H, W)` at any size, of images `(B,)` or of tokens
            `(B, N)`; `label_map` is another name for those of pixels. `boxes`: for each image `(n, 4)`, corners x1, y1,
            x2, y2 in pixels. `masks`: of the instances of each image `(n, H, W)`. `progress`: share of the training
            that is done, 0 to 1. `epoch`: its number. `targets`: numbers to be predicted `(B, C)` or `(B, C, h, w)`,
            for entries whose source is 'truth'; NaN where there are none. `privacy`: how private each pixel
            `(B, H, W)` or row is, 0 to 1. The others are handed on as they are.
        image_size: height and width of the images of the batch; None where it has none.
        ignore_index: label that does not count, 255 if not given.

    Raises:
        TypeError: a key that no loss knows, or labels that are no integers.
        ValueError: labels, boxes or masks of another shape, progress beyond 0 to 1, or both `labels` and `label_map` of
            pixels.

    >>> import torch
    >>> given = Given(dict(labels=torch.tensor([[[0, 1], [2, 255]]]), progress=0.5), image_size=(2, 2))
    >>> given.gather(["labels", "progress"], (4, 4))["labels"][0, 0].tolist()
    [0, 0, 1, 1]
    """

    def __init__(
        self, context: Mapping[str, Any] | None, image_size: Size | None, ignore_index: int | None = None
    ) -> None:
        super().__init__(image_size, ignore_index)
        if context is not None and not isinstance(context, Mapping):
            raise TypeError(
                f"context must be a dict such as dict(labels=..., progress=...), got a {type(context).__name__}; an "
                "argument of the student that is called context is given by its position"
            )
        self.context = {key: value for key, value in (context or {}).items() if value is not None}
        for key in self.context:
            if key not in KEYS:
                raise TypeError(f"context has an unknown key {key!r}; {nearest(key, KEYS)}")
        for key, axes in (("labels", (1, 2, 3)), ("label_map", (3,))):
            value = self.context.get(key)
            if value is None:
                continue
            if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"context: {key} must be a tensor of integers, got {got}")
            if value.ndim not in axes:
                raise ValueError(
                    f"context: {key} must be classes of pixels (B, H, W)"
                    + (", of images (B,) or of tokens (B, N)" if key == "labels" else "")
                    + f", got {tuple(value.shape)}"
                )
        for key, ndim, told in (
            ("boxes", 2, "(n, 4), corners x1, y1, x2, y2 in pixels"),
            ("masks", 3, "(n, H, W)"),
        ):
            for each in self._each(key):
                if not isinstance(each, Tensor) or each.ndim != ndim or (key == "boxes" and each.shape[1] != 4):
                    found = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
                    raise ValueError(f"context: {key} must be for each image a tensor {told}, got {found}")
        targets = self.context.get("targets")
        if targets is not None and not (isinstance(targets, Tensor) and targets.is_floating_point()):
            raise TypeError("context: targets must be a tensor of numbers to be predicted; classes are labels")
        progress = self.context.get("progress")
        if progress is not None and (isinstance(progress, str) or not 0 <= progress <= 1):
            raise ValueError(f"context: progress is the share of the training that is done, 0 to 1, got {progress!r}")
        self._maps = [key for key in ("labels", "label_map") if key in self.context and self.context[key].ndim == 3]
        if len(self._maps) > 1:
            raise ValueError("context: labels (B, H, W) and label_map are two names of one thing; give one of them")

    def _each(self, key: str) -> Sequence[Any]:
        """What the context holds for each image."""
        value = self.context.get(key, ())
        if not isinstance(value, list | tuple | Tensor):
            raise TypeError(f"context: {key} must be a list with a tensor for each image, got a {type(value).__name__}")
        if key in self.context and not len(value):
            raise ValueError(
                f"context: {key} must be a list with a tensor for each image, got none; that of an image without any "
                "has a length of 0"
            )
        return list(value)

    def of_tap(self, size: tuple[int, ...], rows: int) -> tuple[str, ...]:
        """A tap without a size yields rows, of images or nodes; one of a single axis yields tokens."""
        return OF_A_MAP if len(size) == 2 else OF_ROWS if not size else ("labels",)

    def labels(self, size: tuple[int, ...]) -> Tensor | None:
        """Class of each position of a map, by nearest neighbour; of rows and tokens the labels as they are."""
        if len(size) == 2:
            return super().labels((size[0], size[1]))
        found: Tensor | None = self.context.get("labels")
        return found if found is not None and found.ndim == 1 + len(size) else None

    def label_map(self, size: Size) -> Tensor | None:
        """Class of each pixel `(B, H, W)`, as it was given."""
        return self.context[self._maps[0]] if self._maps else None

    def targets(self, size: tuple[int, ...]) -> Tensor | None:
        """Numbers to be predicted, as they were given."""
        return self.context.get("targets")

    def boxes(self, size: Size) -> list[Tensor] | None:
        """Boxes of each image `(n, 4)`, xyxy in positions of the tap."""
        boxes = self.context.get("boxes")
        return None if boxes is None or self.image_size is None else self.scaled(boxes, size)

    def boxes_bev(self, size: Size) -> list[Tensor] | None:
        """Boxes on the ground, as they were given."""
        return self.context.get("boxes_bev")

    def instances(self) -> list[Tensor] | None:
        """Instance masks of each image; whole numbers, such as 0 and 255, are bools."""
        if "masks" not in self.context:
            return None
        return [each if each.is_floating_point() else each.bool() for each in self._each("masks")]

    def privacy(self, size: tuple[int, ...]) -> Tensor | None:
        """How private each position is, 0 to 1: that of its most private pixel."""
        found: Tensor | None = self.context.get("privacy")
        return found if found is None or not size else F.adaptive_max_pool2d(found.float()[:, None], size)[:, 0]

    def progress(self, size: tuple[int, ...]) -> float | None:
        """Share of the training that is done."""
        return self.context.get("progress")

    def epoch(self, size: tuple[int, ...]) -> int | None:
        """Current epoch."""
        return self.context.get("epoch")

    def batch(self, size: tuple[int, ...]) -> Tensor | None:
        """Sample of each row."""
        return self.context.get("batch")

    def point_counts(self, size: tuple[int, ...]) -> Tensor | None:
        """Points of each row."""
        return self.context.get("point_counts")

    def edge_index(self, size: tuple[int, ...]) -> Tensor | None:
        """Edges between rows."""
        return self.context.get("edge_index")


def image_size(*inputs: Any) -> Size | None:
    """Height and width of the first images `(B, C, H, W)` among the arguments of a model; None where it has none.

    >>> import torch
    >>> image_size((), {"pixel_values": torch.zeros(2, 3, 8, 16)})
    (8, 16)
    """
    found = images_of(*inputs)
    return None if found is None else (found.shape[-2], found.shape[-1])


def images_of(*inputs: Any) -> Tensor | None:
    """The first images `(B, C, H, W)` among the arguments of a model; None where it has none."""
    return next((each for each in tensors_in(inputs) if each.ndim >= 4), None)


def with_images(value: Any, images: Tensor, others: Tensor) -> Any:
    """Arguments of a model with other images in the place of its own.

    >>> import torch
    >>> own, others = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    >>> with_images({"x": (own, 5)}, own, others)["x"][0] is others
    True
    """
    if value is images:
        return others
    if isinstance(value, Mapping):
        return {key: with_images(each, images, others) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_images(each, images, others) for each in value)
    return value
