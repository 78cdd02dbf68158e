"""Dense heads of mmdet that are two stacks of convolutions with a last layer each: what their parts are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["anchors", "points", "distribution"]
HEADS: dict[str, tuple[str, str, Kind]] = {
    "RetinaHead": ("retina_cls", "retina_reg", "anchors"),
    "ATSSHead": ("atss_cls", "atss_reg", "anchors"),
    "GFLHead": ("gfl_cls", "gfl_reg", "distribution"),
    "FCOSHead": ("conv_cls", "conv_reg", "points"),
}
"""By the class of a head: the last layers of classes and of boxes, and what those of boxes are told from."""


class Branch(NamedTuple):
    """One of the two stacks of a head.

    Attributes:
        stack: path of its convolutions.
        last: path of its last layer.
        depth: how many convolutions there are.
    """

    stack: str
    last: str
    depth: int


class DenseHead(NamedTuple):
    """A head and its two branches.

    Attributes:
        classes: the branch of the classes.
        boxes: that of the boxes.
        kind: boxes are told from 'anchors', from 'points', or by a 'distribution' of each side's distance.
        priors: boxes that are told at each location.
        levels: how many maps it reads.
    """

    classes: Branch
    boxes: Branch
    kind: Kind
    priors: int
    levels: int


def dense_head(model: Any) -> DenseHead | None:
    """Return the dense head of a detector; None where it is none of `HEADS`, or its forward is another.

    A subclass of one of these heads counts as that head where it computes the same.

    >>> import torch
    >>> dense_head(torch.nn.Linear(2, 2)) is None
    True
    """
    head: Any = getattr(model, "bbox_head", None)
    base = next((each for each in type(head).__mro__ if each.__name__ in HEADS), None)
    if base is None or any(
        getattr(type(head), each) is not getattr(base, each) for each in ("forward", "forward_single")
    ):
        return None
    classes, boxes, kind = HEADS[base.__name__]
    strides: Sequence[Any] = head.prior_generator.strides
    stacks = ("cls_convs", classes), ("reg_convs", boxes)
    of = [Branch(f"bbox_head.{name}", f"bbox_head.{last}", len(getattr(head, name))) for name, last in stacks]
    return DenseHead(of[0], of[1], kind, head.num_base_priors, len(strides))


def heads_of(method: str, student: Any, teacher: Any, kind: Kind | None = None) -> tuple[DenseHead, DenseHead]:
    """Return the dense heads of two detectors that tell the same boxes of the same classes.

    Raises:
        ValueError: one has no such head, or not one of the `kind`, or the two differ.
    """
    found = []
    known = [name for name, (_, _, each) in HEADS.items() if kind in (None, each)]
    for side, model in (("student", student), ("teacher", teacher)):
        head = dense_head(model)
        if head is None or kind not in (None, head.kind):
            own = type(getattr(model, "bbox_head", None) or getattr(model, "roi_head", None) or model).__name__
            raise ValueError(
                f"method {method!r} is for detectors with a {' or '.join(known)} of mmdet; the {side}, a "
                f"{type(model).__name__}, has a {own}; 'pkd' and 'fgd' compare necks of any"
            )
        found.append(head)
    mine, its = found
    for what, pair in {
        "kinds of boxes": (mine.kind, its.kind),
        "levels": (mine.levels, its.levels),
        "anchors at a location": (mine.priors, its.priors),
        "classes": (student.bbox_head.num_classes, teacher.bbox_head.num_classes),
        "outputs a class": (student.bbox_head.cls_out_channels, teacher.bbox_head.cls_out_channels),
        "strides": tuple(
            [_pair(each) for each in model.bbox_head.prior_generator.strides] for model in (student, teacher)
        ),
    }.items():
        if pair[0] != pair[1]:
            raise ValueError(f"method {method!r}: the heads have other {what}: student {pair[0]}, teacher {pair[1]}")
    if mine.kind == "anchors":
        each = [model.bbox_head.prior_generator.base_anchors for model in (student, teacher)]
        if any(one.shape != other.shape or bool((one.cpu() != other.cpu()).any()) for one, other in zip(*each)):
            raise ValueError(f"method {method!r}: the heads have other anchors: give both the same anchor_generator")
    return mine, its


def _pair(stride: Any) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else tuple(stride)
