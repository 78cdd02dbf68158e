"""Heads of two-stage detectors of mmdet, of which the rows are boxes: where a tap lies in them, and what it yields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from densekd.taps.reader import Tap

FEATURES = "neck"
"""Tap of what a RoI head reads, beside the boxes."""

Kind = Literal["classes", "boxes", "masks", "features"]
LAST: dict[str, dict[str, Kind]] = {
    "bbox": {"fc_cls": "classes", "fc_reg": "boxes"},
    "mask": {"conv_logits": "masks"},
}
"""Last layers of the heads, and what they yield."""

_ITEMS: dict[int | None, Kind] = {0: "classes", 1: "boxes", -2: "classes", -1: "boxes"}
"""What a box head yields."""

_PLACE = re.compile(r"roi_head\.(bbox|mask)_(?:head|roi_extractor)(?:\.(\d+))?(?:[.:][^+]*)?")
_ASKED = {("x", "rois"): False, ("x", "rois", "pos_inds", "bbox_feats"): False, ("stage", "x", "rois"): True}
"""Arguments of what runs a head on boxes, and whether there are several. A head that reads more than features and
boxes, such as a semantic map, cannot be asked about any boxes."""


class Place(NamedTuple):
    """Which head of a two-stage detector a tap lies in.

    Attributes:
        part: 'bbox', of which the rows are all sampled proposals, or 'mask', of which they are those with an object.
        stage: of a cascade; None where there is one head.
    """

    part: str
    stage: int | None = None

    def head(self, model: Any) -> Any:
        """The head itself; None where a detector has none here."""
        heads = getattr(getattr(model, "roi_head", None), f"{self.part}_head", None)
        several = isinstance(heads, nn.ModuleList)
        if not isinstance(heads, nn.Module) or several != (self.stage is not None):
            return None
        if self.stage is None:
            return heads
        return heads[self.stage] if self.stage < len(heads) else None  # type: ignore[index, arg-type]

    def runs(self, model: Any) -> Callable[[Sequence[Tensor], Tensor], Any] | None:
        """What runs the head on levels of the neck and boxes `(N, 5)`; None where there is none, or it reads more."""
        method = getattr(getattr(model, "roi_head", None), f"_{self.part}_forward", None)
        if method is None or self.head(model) is None or not hasattr(model, FEATURES):
            return None
        several = _ASKED.get(tuple(inspect.signature(method).parameters))
        stage = () if self.stage is None else (self.stage,)
        if several is None or several != bool(stage):
            return None
        return lambda features, rois: method(*stage, tuple(features), rois)


def place_of(tap: str) -> Place | None:
    """Where a tap lies in the heads of a two-stage detector; None elsewhere, and for several taps in one.

    >>> place_of("roi_head.bbox_head.1.fc_cls:in"), place_of("roi_head.mask_head.conv_logits"), place_of("neck")
    (Place(part='bbox', stage=1), Place(part='mask', stage=None), None)
    """
    found = _PLACE.fullmatch(tap)
    return None if found is None else Place(found[1], None if found[2] is None else int(found[2]))


def of_proposals(tap: str) -> bool:
    """Whether the rows of a tap are the proposals of a two-stage detector, or those of them with an object."""
    return place_of(tap) is not None


def kind_of(model: Any, tap: str) -> Kind | None:
    """What a tap in a head yields; None where `of_proposals` does not hold, or there is no such head."""
    place = place_of(tap)
    head = None if place is None else place.head(model)
    if place is None or head is None:
        return None
    each = Tap.parse(tap)
    module = model.get_submodule(each.path)
    if each.of_input:
        return "features"
    if module is head:  # its output: masks, or classes and boxes
        return "masks" if place.part == "mask" else _ITEMS.get(each.item, "features")
    return next((kind for name, kind in LAST[place.part].items() if module is getattr(head, name, None)), "features")


def shares_proposals(model: Any) -> bool:
    """Whether the one box head of a two-stage detector can be asked about any proposals."""
    return Place("bbox").runs(model) is not None


def pairs_of(method: str, student: Any, teacher: Any, kind: Kind) -> dict[str, dict[str, str]]:
    """Return the taps of both sides for each stage of a student, by a name; none where a side has no such layer.

    A stage of a cascade goes with the same stage of the teacher, or its last if that has fewer.

    Args:
        method: for messages.
        student: a detector.
        teacher: another one.
        kind: what the layer yields.

    Raises:
        ValueError: a side is no two-stage detector whose heads can be asked about boxes.
    """
    mine, its = (_last(method, side, model, kind) for side, model in (("student", student), ("teacher", teacher)))
    if not its:
        return {}
    pairs = [{"student": tap, "teacher": its[min(i, len(its) - 1)]} for i, tap in enumerate(mine)]
    return {kind: pairs[0]} if len(pairs) == 1 else {f"{kind}_{i}": pair for i, pair in enumerate(pairs)}


def _last(method: str, side: str, model: Any, kind: Kind) -> list[str]:
    """Taps of the layers that yield a kind, stage by stage."""
    heads = getattr(getattr(model, "roi_head", None), "bbox_head", None)
    stages = [*range(len(heads))] if isinstance(heads, nn.ModuleList) else [None]
    if not all(Place("bbox", stage).runs(model) for stage in stages):
        own = type(getattr(model, "roi_head", None) or getattr(model, "bbox_head", None) or model).__name__
        has = f"a {own}" if hasattr(model, FEATURES) or not hasattr(model, "roi_head") else "no neck"
        raise ValueError(
            f"method {method!r} asks the teacher about the student's boxes: it is for two-stage detectors of mmdet "
            f"with a neck, such as Faster, Cascade or Mask R-CNN; the {side}, a {type(model).__name__}, has {has}. "
            "'crosskd' and 'ld' teach heads of one stage, 'pkd' and 'fgd' necks of any"
        )
    part, name = next((part, name) for part in LAST for name, each in LAST[part].items() if each == kind)
    found = [f"roi_head.{part}_head.{'' if stage is None else f'{stage}.'}{name}" for stage in stages]
    modules = dict(model.named_modules())
    return [tap for tap in found if tap in modules]
