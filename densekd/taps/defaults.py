"""Default taps of known model families."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from torch import nn

from densekd.taps.families import head_of, last_layers
from densekd.taps.reader import Tap

PRE_LOGIT = ("fpn_bottleneck", "sep_bottleneck", "fusion_conv", "conv_cat", "bottleneck", "project")
"""Last layers of mmseg's heads before dropout and classifier; of several the first in this list runs last."""
_OTHER_IN_TRAINING = ("DDRNet", "PIDNet")
"""Backbones that yield more tensors in training than they do for a teacher."""
_KERNEL = re.compile(r"decode_head\.kernel_update_head\.\d+")
CLASSIFIERS = (
    *("retina_cls", "gfl_cls", "conv_cls", "atss_cls", "fcos_cls", "rtm_cls", "vfnet_cls", "multi_level_conv_cls"),
    *("cls_score", "reppoints_cls_out", "heatmap_head"),
)
"""Last layers of the class branch of mmdet's dense heads; a list of them has one for each level."""


def default_taps(model: nn.Module) -> dict[str, str]:
    """Return the default taps of a segmenter or detector: `logits` and `features`, where it has them.

    Segmenters (mmseg): the class logits of the last decode head that has them, and their input before dropout where
    there is such a layer, else the neck or the backbone's last stage. Detectors (mmdet): the class branch and the neck,
    of a MaskFormer or Mask2Former the levels of its pixel decoder.
    Heads that classify proposals or queries, as those of two-stage detectors and of DETR do, have no `logits`: the rows
    of student and teacher stand for other objects. Other PyTorch models: the last layer of a head with a name of
    `densekd.taps.families.HEADS`, and its input.

    >>> default_taps(nn.Linear(2, 2))
    {}
    """
    own = getattr(model, "default_taps", None)
    if isinstance(own, dict):  # of a model that says them itself
        return dict(own)
    plain = head_of(model)
    if plain is not None:
        return {"logits": plain.logits, **({"features": plain.features} if plain.features else {})}
    modules = dict(model.named_modules())
    taps = {}
    if "decode_head" in modules:
        cascade = modules["decode_head"]
        stages = range(len(cascade) - 1, -1, -1) if isinstance(cascade, nn.ModuleList) else ()
        heads = [f"decode_head.{stage}" for stage in stages] or ["decode_head"]
        head = next((name for name in heads if f"{name}.conv_seg" in modules), None)
        if head is not None:
            taps["logits"] = f"{head}.conv_seg"
        last = max((int(name.rpartition(".")[2]) for name in modules if _KERNEL.fullmatch(name)), default=None)
        if head is None and last is not None:  # of K-Net, whose last stage says it
            taps["logits"] = f"decode_head.kernel_update_head.{last}:0"
        if head is None and "decode_head.mask_norm" in modules:  # of Segmenter, tokens
            taps["logits"] = "decode_head.mask_norm"
        found = [f"{head}.{name}" for name in PRE_LOGIT if f"{head}.{name}" in modules]
        if found:
            taps["features"] = found[0]
        elif "neck" in modules:
            taps["features"] = "neck"
        elif backbone_name(model) in _OTHER_IN_TRAINING and head is not None:
            taps["features"] = f"{head}.conv_seg:in"
        elif "backbone" in modules:
            taps["features"] = "backbone:-1"
    elif "backbone" in modules:
        found = [name for name in CLASSIFIERS if f"bbox_head.{name}" in modules]
        if found and "mask_head" not in modules:  # of mmdet's instance segmenters, which run it twice in mode='tensor'
            taps["logits"] = each_level(model, f"bbox_head.{found[0]}")
        decoder = "panoptic_head.pixel_decoder"
        taps["features"] = "neck" if "neck" in modules else f"{decoder}:1" if decoder in modules else "backbone"
    return taps


def each_level(model: nn.Module, path: str) -> str:
    """Return the tap of a module; of a list of modules, which is never called itself, the taps of its parts.

    >>> each_level(nn.ModuleDict({"cls": nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])}), "cls")
    'cls.0+cls.1'
    """
    parts = model.get_submodule(path)
    if not isinstance(parts, nn.ModuleList):
        return path
    return "+".join(f"{path}.{i}" for i, part in enumerate(parts) if part not in list(parts)[:i])


def sigmoid_logits(model: nn.Module, spec: str, channels: int | None = None) -> bool:
    """Whether each channel of a tap is the logit of a sigmoid: one class against all others.

    So it is in mmseg's heads with one output channel, except those for depth, in the class branch of mmdet's dense
    heads that are trained with `use_sigmoid`, in the masks of its two-stage detectors, and in the head of another model
    if it yields a single channel.

    Args:
        model: the network.
        spec: the tap.
        channels: what the tap yields, where that is known.

    >>> net = nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "head": nn.Conv2d(8, 1, 1)})
    >>> sigmoid_logits(net, "head", channels=1), sigmoid_logits(net, "body", channels=8)
    (True, False)
    """
    taps = [Tap.parse(part) for part in spec.split("+")]
    if any(each.of_input for each in taps):
        return False
    plain = head_of(model) if channels == 1 else None
    if plain is not None and plain.classes in (1, None):
        last = f"{plain.logits}."
        return all(not each.path or last.startswith(f"{each.path}.") or each.path.startswith(last) for each in taps)
    return all(_is_sigmoid(model, each.path) for each in taps)


def _is_sigmoid(model: Any, path: str) -> bool:
    names = path.split(".")
    for depth in range(len(names), 0, -1):
        head, inside = model.get_submodule(".".join(names[:depth])), names[depth:]
        if hasattr(head, "loss_decode"):
            return is_binary(head) and (not inside or "seg" in inside[0])
        if getattr(head, "use_sigmoid_cls", False) or hasattr(head, "heatmap_head"):
            return bool(inside) and inside[0] in (*CLASSIFIERS, "rpn_cls")
        if hasattr(head, "loss_mask"):
            return inside in ([], ["conv_logits"])
    return False


def is_binary(head: Any) -> bool:
    """Whether a decode head of mmseg has one sigmoid for two classes; a depth head has a single channel as well."""
    if getattr(head, "out_channels", None) != 1:
        return False
    losses = head.loss_decode if isinstance(head.loss_decode, nn.ModuleList) else [head.loss_decode]
    return head.num_classes == 2 or any(getattr(loss, "use_sigmoid", False) for loss in losses)


def is_segmenter(model: nn.Module) -> bool:
    """Whether a model has a decode head, as mmseg's segmenters do, or another head that classifies pixels."""
    if hasattr(model, "decode_head"):
        return True
    plain = head_of(model)
    return plain is not None and plain.of_pixels


def tap(model: nn.Module, kind: str) -> str:
    """Return the default tap of a kind, `logits` or `features`; raises `ValueError` if the model has none."""
    taps = default_taps(model)
    if kind not in taps:
        raise ValueError(
            f"{type(model).__name__} has no default tap for {kind}; write distills entries with module paths, "
            f"distills=[dict(loss=..., student='path', teacher='path')]; its last layers: {last_layers(model)}"
        )
    return taps[kind]


def blocks(model: nn.Module) -> list[str]:
    """Return the taps of the blocks of a transformer backbone, first to last; none if it is no transformer.

    A block is what has attention `attn` and a feed-forward network `ffn`, as mmseg and mmdet call them: ViT, BEiT, MiT,
    PVT, Swin, Twins.
    """
    backbone = getattr(model, "backbone", None)
    parts = backbone.named_modules() if isinstance(backbone, nn.Module) else ()
    return [f"backbone.{name}" for name, part in parts if hasattr(part, "attn") and hasattr(part, "ffn")]


def block(model: nn.Module, depth: Fraction) -> str:
    """Return the tap of the block that begins at a fraction of the depth: 8 of 12, from 0, at 2/3; the last one at 1.

    Raises:
        ValueError: the backbone is no transformer.
    """
    found = blocks(model)
    if not found:
        raise ValueError(
            f"the backbone of {type(model).__name__}, {backbone_name(model)}, has no transformer blocks; "
            "'cwd' and 'pkd' work on any backbone"
        )
    return found[min(math.floor(depth * len(found)), len(found) - 1)]


def patch_embeddings(model: nn.Module) -> list[str]:
    """Return the patch embeddings of a hierarchical transformer, such as MiT or PVT, one a stage; none for others."""
    stages = getattr(getattr(model, "backbone", None), "layers", ())
    return [
        f"backbone.layers.{i}.0"
        for i, stage in enumerate(stages)
        if isinstance(stage, nn.ModuleList) and len(stage) and hasattr(stage[0], "projection")
    ]


def backbone_name(model: nn.Module) -> str:
    """Class name of a model's backbone, for messages."""
    return type(getattr(model, "backbone", model)).__name__
