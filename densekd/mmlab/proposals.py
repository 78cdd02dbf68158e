"""The proposals of a two-stage student: their labels, and what its teacher says of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from densekd.taps.reader import Taps
from densekd.taps.replaced import replaced
from densekd.taps.roi_heads import Place, place_of


class Rows(NamedTuple):
    """Labels of the rows of a tap, as an entry reads them.

    Attributes:
        labels: class of each `(N,)`; -1 is ignored. None for a tap that has none.
        classes: K; a label of K is background.
    """

    labels: Tensor | None
    classes: int = 0

    def at(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Labels of a tap of rows; None for maps."""
        return None if size else self.labels

    def objects(self, size: tuple[int, ...], level: int) -> Tensor | None:
        """Which rows have an object, `(N,)` bool; None for maps."""
        labels = self.at(size, level)
        return None if labels is None else (labels >= 0) & (labels < self.classes)

    def of_objects(self) -> Rows:
        """Those with an object."""
        return self if self.labels is None else self._replace(labels=self.labels[self.objects((), 0)])


class Proposals:
    """Context manager that records the proposals which a two-stage student samples in one forward, and their labels.

    In a cascade those of each stage, which are boxes that the stage before has moved.

    Args:
        model: of which heads run on boxes, see `densekd.taps.roi_heads.Place`; it runs in `mode='loss'`.

    Attributes:
        rois: by head image and corners of each row `(N, 5)`, in pixels. A stage of a cascade that nothing reaches has
            none.
        labels: by stage the class of each proposal `(N,)`; K, after the last class, is background, which is a class of
            its softmax. -1 is ignored.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.rois: dict[Place, Tensor] = {}
        self.labels: dict[int | None, Tensor] = {}

    def __enter__(self) -> Proposals:
        roi_head = self._model.roi_head
        several = isinstance(roi_head.bbox_head, nn.ModuleList)
        heads = dict(enumerate(roi_head.bbox_head)) if several else {None: roi_head.bbox_head}
        self._replaced = ExitStack()
        for stage, head in heads.items():
            recorded = {"get_targets": self._labelling(head.get_targets, stage)}
            self._replaced.enter_context(replaced(head, recorded))
        runs = {part: getattr(roi_head, f"_{part}_forward", None) for part in ("bbox", "mask")}
        looking = {f"_{part}_forward": self._looking(part, run) for part, run in runs.items() if run is not None}
        self._replaced.enter_context(replaced(roi_head, looking))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replaced.close()

    def _labelling(self, targets: Callable[..., Any], stage: int | None) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            found = targets(*args, **kwargs)
            whole, counts = (torch.cat(list(each)) if isinstance(each, list | tuple) else each for each in found[:2])
            self.labels[stage] = whole.where(counts > 0, -1)
            return found

        return recorded

    def _looking(self, part: str, run: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(run)

        @functools.wraps(run)
        def look(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            place, rois = Place(part, given.get("stage")), given.get("rois")
            if rois is None:  # masks of what was pooled for boxes
                rois = self.rois[Place("bbox", place.stage)][given["pos_inds"].bool()]
            self.rois[place] = rois.detach()
            return run(*args, **kwargs)

        return look

    def rows(self, tap: str) -> Rows:
        """Labels of the rows of a tap; those of masks are of the proposals with an object."""
        place = place_of(tap)
        labels = None if place is None else self.labels.get(place.stage)
        if place is None or labels is None:
            return Rows(None)
        found = Rows(labels, Place("bbox", place.stage).head(self._model).num_classes)
        return found if place.part == "bbox" else found.of_objects()

    @torch.no_grad()
    def told(
        self, place: Place, teacher: Any, features: Sequence[Tensor], taps: Iterable[str]
    ) -> dict[str, list[Tensor]]:
        """What a teacher's head yields of the rows of one of the student's.

        Args:
            place: the student's head.
            teacher: of which heads run on boxes.
            features: levels of its neck.
            taps: of one of its heads, which may be that of another stage.
        """
        with Taps(teacher, taps) as seen:
            head: Any = place_of(next(iter(seen.specs)))
            head.runs(teacher)(features, self.rois[place])
        return {tap: seen[tap] for tap in seen.specs}
