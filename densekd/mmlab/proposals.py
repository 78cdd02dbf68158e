"""The proposals of a two-stage student: their labels, and what its teacher says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from densekd.mmlab.assigned import replaced
from densekd.taps.reader import Taps

FEATURES = "neck"
"""Tap of what a RoI head reads, beside the proposals."""


def of_proposals(tap: str) -> bool:
    """Whether the rows of a tap are the proposals of a two-stage detector."""
    return tap.startswith("roi_head.bbox_")


def shares_proposals(model: Any) -> bool:
    """Whether the one box head of a two-stage detector can be asked about any proposals."""
    head: Any = getattr(model, "roi_head", None)
    one = isinstance(getattr(head, "bbox_head", None), nn.Module) and not isinstance(head.bbox_head, nn.ModuleList)
    return one and hasattr(head, "_bbox_forward") and hasattr(head, "bbox_roi_extractor") and hasattr(model, FEATURES)


def classes_of_proposals(model: Any) -> int:
    """Classes of the box head of a detector for which `shares_proposals` holds; the last one is background."""
    return model.roi_head.bbox_head.num_classes + 1


class Proposals:
    """Context manager that records the proposals which a two-stage student samples in one forward, and their labels.

    Args:
        model: for which `shares_proposals` holds; it runs in `mode='loss'`.

    Attributes:
        rois: image and corners of each proposal `(N, 5)`, in pixels.
        labels: class of each `(N,)`; K, after the last class, is background, which is a class of its softmax. -1 is
            ignored.
    """

    rois: Tensor
    labels: Tensor

    def __init__(self, model: Any) -> None:
        self._head: Any = model.roi_head

    def __enter__(self) -> Proposals:
        targets = self._head.bbox_head.get_targets

        def recorded(*args: Any, **kwargs: Any) -> Any:
            found = targets(*args, **kwargs)
            whole, counts = (torch.cat(list(each)) if isinstance(each, list | tuple) else each for each in found[:2])
            self.labels = whole.where(counts > 0, -1)
            return found

        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.rois = args[1].detach()

        self._replaced = replaced(self._head.bbox_head, {"get_targets": recorded})
        self._replaced.__enter__()
        self._hook = self._head.bbox_roi_extractor.register_forward_pre_hook(look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()
        self._replaced.__exit__(kind, error, trace)

    def at(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Labels of a tap of rows; None for maps."""
        return None if size else self.labels

    @torch.no_grad()
    def told(self, teacher: Any, features: Sequence[Tensor], taps: Iterable[str]) -> dict[str, list[Tensor]]:
        """What a teacher yields of these proposals at taps of its RoI head, from the levels of its neck."""
        with Taps(teacher, taps) as seen:
            teacher.roi_head._bbox_forward(tuple(features), self.rois)
        return {tap: seen[tap] for tap in seen.specs}
