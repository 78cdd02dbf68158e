"""Heads of plain PyTorch models: of transformers, segmentation-models-pytorch, timm, torchvision, or named alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from kdlosses.outputs import Output

HEADS = (
    *("decode_head.classifier", "segmentation_head.classifier", "segmentation_head"),  # transformers, smp
    *("classifier", "head.head", "heads.head", "head.fc", "head", "fc"),  # classifiers; transformers' DPT
)
"""Paths of heads; the first in this list counts."""
SECOND = ("head_dist", "cls_classifier", "distillation_classifier")
"""Heads of models that have two, so that neither is the one."""
_AFTER = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample, nn.UpsamplingBilinear2d, nn.Flatten)


class Head(NamedTuple):
    """The last layer of a model.

    Attributes:
        logits: tap of the class logits.
        features: tap of its input; None where that is not one layer's.
        of_pixels: whether it classifies pixels, not images.
        classes: how many; None where that is unknown.
    """

    logits: str
    features: str | None
    of_pixels: bool
    classes: int | None


def head_of(model: nn.Module) -> Head | None:
    """Return the head of a plain model; None if it has none of a known name, or is one of OpenMMLab's.

    >>> head_of(nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "head": nn.Conv2d(8, 5, 1)}))
    Head(logits='head', features='head:in', of_pixels=True, classes=5)
    """
    if hasattr(model, "data_preprocessor"):
        return None
    parts = dict(model.named_modules())
    path = next((name for name in HEADS if name in parts), None)
    if path is None or any(name in parts for name in SECOND):
        return None
    last = _last(path, parts[path])
    layer: Any = parts[last]
    if isinstance(layer, Output):
        return Head(last, f"{last}:in", isinstance(layer.layer, nn.Conv2d), layer.classes)
    if isinstance(layer, nn.Conv2d):
        return Head(last, f"{last}:in", True, layer.out_channels)
    if isinstance(layer, nn.Linear):
        return Head(last, f"{last}:in", False, layer.out_features)
    if "backbone" in parts and path == "classifier":  # torchvision's LR-ASPP adds up two classifiers
        return Head(path, None, True, None)
    return None


def _last(path: str, module: nn.Module) -> str:
    """Path of the layer that makes the logits: inside of sequences, and of what has a single part."""
    parts = [(name, part) for name, part in module.named_children() if not _passes(part)]
    if parts and not isinstance(module, Output) and (isinstance(module, nn.Sequential) or len(parts) == 1):
        name, part = parts[-1]
        return _last(f"{path}.{name}", part)
    return path


def _passes(part: nn.Module) -> bool:
    """Whether a part after the logits changes at most their size, or is what some libraries put there for nothing."""
    inner = list(part.children())
    return isinstance(part, _AFTER) or (bool(inner) and all(map(_passes, inner)))


def patch_of(model: nn.Module) -> tuple[int, int] | None:
    """Height and width of the patches of a plain vision transformer; None where its tokens are not of one size.

    They are those of its first convolution, if that does not overlap and there is no other one that shrinks the map.
    """
    strided = [each for each in model.modules() if isinstance(each, nn.Conv2d) and max(each.stride) > 1]
    if len(strided) != 1 or strided[0].kernel_size != strided[0].stride:
        return None
    height, width = strided[0].stride[0], strided[0].stride[1]
    return height, width


def last_layers(model: nn.Module, count: int = 3) -> str:
    """Name the last layers of a model, for messages."""
    found = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return ", ".join(found[-count:]) or "none"
