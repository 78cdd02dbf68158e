"""Where a model of a known family is usually tapped."""

from __future__ import annotations

from torch import nn

CLASSIFIERS = ("retina_cls", "gfl_cls", "conv_cls", "atss_cls", "fcos_cls", "rtm_cls", "vfnet_cls", "fc_cls")


def natural_taps(model: nn.Module) -> dict[str, str]:
    """Return the usual taps of a segmenter or detector: `logits` and `features`, those that it has.

    Segmenters (mmseg): the class logits of the last decode head and what goes into them before dropout where the head
    has such a layer, else the backbone's last stage. Detectors (mmdet): the class branch and the neck.

    >>> natural_taps(nn.Linear(2, 2))
    {}
    """
    modules = dict(model.named_modules())
    taps = {}
    if "decode_head" in modules:
        cascade = isinstance(modules["decode_head"], nn.ModuleList)
        head = f"decode_head.{len(modules['decode_head']) - 1}" if cascade else "decode_head"
        if f"{head}.conv_seg" in modules:
            taps["logits"] = f"{head}.conv_seg"
        clean = ("bottleneck", "fusion_conv", "fpn_bottleneck", "sep_bottleneck")  # each ends before dropout
        found = [f"{head}.{name}" for name in clean if f"{head}.{name}" in modules]
        taps["features"] = found[0] if found else "backbone:-1"
    elif "backbone" in modules:
        heads = ("bbox_head", "roi_head.bbox_head")
        found = [f"{head}.{name}" for head in heads for name in CLASSIFIERS if f"{head}.{name}" in modules]
        if found:
            taps["logits"] = found[0]
        taps["features"] = "neck" if "neck" in modules else "backbone"
    return taps


def is_segmenter(model: nn.Module) -> bool:
    """Whether a model has a decode head, as mmseg's segmenters do."""
    return hasattr(model, "decode_head")


def tap(model: nn.Module, kind: str) -> str:
    """Return the natural tap of a kind, `logits` or `features`; raises `ValueError` if the model has none."""
    taps = natural_taps(model)
    if kind not in taps:
        raise ValueError(f"{type(model).__name__} has no natural tap for {kind}; write distills entries with paths")
    return taps[kind]
