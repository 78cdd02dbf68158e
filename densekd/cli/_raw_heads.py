"""What the head of a one-stage detector tells at each level, by names that an ONNX model can have."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

KINDS = {
    "cls_scores": "classes",
    "bbox_preds": "boxes",
    "centernesses": "centerness",
    "objectnesses": "objectness",
}
"""By mmdet's names of what a head tells; others keep theirs."""


def check(model: Any) -> None:
    """Raise `ValueError` if a model is no detector with one stage, and say what can be done instead."""
    name = type(model).__name__
    weights = "its weights alone are exported by --weights, for mmdet and its tools, such as mmdeploy"
    if hasattr(model, "roi_head"):
        raise ValueError(
            f"--out is for segmenters and one-stage detectors; a {name} chooses boxes and pools features inside of "
            f"them, between its two stages: {weights}. A student of one stage, such as RetinaNet or GFL, can be "
            "distilled from the same teacher by its neck (pkd, fgd), and exported"
        )
    if not any(each.__name__ == "SingleStageDetector" for each in type(model).__mro__):
        raise ValueError(f"--out is for segmenters and one-stage detectors of boxes, not for a {name}: {weights}")


def kinds(model: Any) -> list[str]:
    """What a head tells at each level, in its order."""
    head = model.bbox_head
    found = [*inspect.signature(head.predict_by_feat).parameters]
    found = found[: found.index("batch_img_metas")]
    trained = [*inspect.signature(head.loss_by_feat).parameters]
    if "score_factors" in found:  # whatever a head multiplies its scores by; its loss knows what that is
        place = found.index("score_factors")
        found[place] = trained[place] if trained[place] in KINDS else "score_factors"
    return [KINDS.get(name, name) for name in found]


def levels(model: Any, told: Any) -> tuple[Tensor, ...]:
    """The maps of a head, kind by kind and level by level.

    Raises:
        ValueError: the head tells something else.
    """
    lists = told if isinstance(told, tuple) else (told,)
    if not all(isinstance(each, list | tuple) and all(isinstance(x, Tensor) for x in each) for each in lists):
        raise ValueError(f"a {type(model.bbox_head).__name__} tells no maps of each level: it is not exported")
    return tuple(level for each in lists for level in each)


def names(model: Any, told: Sequence[Sequence[Tensor]]) -> list[str]:
    """Names of `levels`, such as 'classes_0' for the finest level."""
    return [f"{kind}_{i}" for kind, each in zip(kinds(model), told) for i in range(len(each))]


def meta(model: Any) -> dict[str, Any]:
    """What is needed to decode boxes from what a head tells."""
    head = model.bbox_head
    priors = getattr(head, "prior_generator", None)
    strides = getattr(priors, "strides", None)
    anchors, coder = getattr(priors, "base_anchors", None), getattr(head, "bbox_coder", None)
    found = {
        "head": type(head).__name__,
        "strides": None if strides is None else [[x, x] if isinstance(x, int) else list(x) for x in strides],
        "offset": None if anchors is not None else getattr(priors, "offset", None),
        "anchors": None if anchors is None else [level.tolist() for level in anchors],
        "coder": _coder(coder),
        "sigmoid": getattr(head, "use_sigmoid_cls", None),
        "reg_max": getattr(head, "reg_max", None),
    }
    return {key: value for key, value in found.items() if value is not None}


def _coder(coder: Any) -> dict[str, Any] | None:
    if coder is None:
        return None
    numbers = {name: getattr(coder, name, None) for name in ("means", "stds")}
    return {"type": type(coder).__name__, **{name: list(each) for name, each in numbers.items() if each is not None}}
