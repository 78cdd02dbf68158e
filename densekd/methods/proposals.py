"""The teacher's heads on the student's proposals: classes, boxes and masks (two-stage detectors)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.roi_heads import Kind, pairs_of


@method()
def proposals(
    student: nn.Module,
    teacher: nn.Module,
    loss: str | Mapping[str, Any] = "kl",
    classes: float = 1.0,
    boxes: float = 1.0,
    masks: float = 1.0,
    class_map: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Ask the teacher's heads about the boxes that the student samples, and match what they say.

    The teacher's own neck is pooled at these boxes, for its own heads, so that each row is the same box on both sides.
    Class logits are compared of all sampled boxes, with background as a class; offsets of boxes by `smooth_l1`, and
    masks by the divergence of each pixel's sigmoid, of those with an object and of its class alone. A cascade has
    entries for each stage, whose boxes are those that the stage before has moved: a stage of the student asks the same
    stage of the teacher, or its last if that has fewer.

    Args:
        student: a two-stage detector of mmdet, such as Faster, Cascade or Mask R-CNN.
        teacher: another one. It need not be of the same kind: what one of the two has not is left out.
        loss: of the class logits, such as `'dkd'` or `dict(type='nkd', tau=2.0)`; it may read labels.
        classes: weight of the class logits; 0 for none.
        boxes: weight of the offsets; 0 for none.
        masks: weight of the masks; 0 for none.
        class_map: for each of the student's classes the teacher's, without background, where they have others.

    Raises:
        ValueError: one has a single stage, or heads that read more than features and boxes; classes differ.

    Paper: Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation", NeurIPS 2017, has
    class logits of the same proposals. Theirs weighs background 1.5 and bounds the boxes by the teacher's error; plain
    divergence, offsets of the class alone, masks and cascades are ours, and so are the weights.
    """
    weights: dict[Kind, float] = {"classes": classes, "boxes": boxes, "masks": masks}
    if not any(weights.values()):
        raise ValueError("method 'proposals': the weights of classes, boxes and masks are 0: nothing is compared")
    losses: dict[Kind, Any] = {"classes": loss, "boxes": "smooth_l1", "masks": "kl"}
    entries = []
    for kind, weight in weights.items():
        for name, taps in pairs_of("proposals", student, teacher, kind).items() if weight else ():
            entry = {"loss": losses[kind], **taps, "weight": weight, "name": name}
            if class_map is not None:
                entry["class_map"] = _mapped(class_map, teacher, kind)
            entries.append(entry)
    if not entries:
        raise ValueError("method 'proposals': what the weights leave is in no head that student and teacher both have")
    return entries


def _mapped(class_map: Any, teacher: Any, kind: Kind) -> Any:
    """The class map of an entry: that of class logits has background, too; the entry refuses what is no list."""
    if kind != "classes" or not isinstance(class_map, Iterable):
        return class_map
    heads = teacher.roi_head.bbox_head
    head: Any = heads[0] if isinstance(heads, nn.ModuleList) else heads
    return [*class_map, head.num_classes]
