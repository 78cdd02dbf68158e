"""Taps of methods that are for segmenters alone."""

from __future__ import annotations

from torch import nn

from densekd.taps.defaults import is_segmenter, tap


def logits(method: str, student: nn.Module, teacher: nn.Module) -> dict[str, str]:
    """Return the taps of the class logits, of pixels, or of images in a plain classifier.

    Raises:
        ValueError: the student has none.
    """
    of_mmlab = hasattr(student, "data_preprocessor")
    if of_mmlab and not is_segmenter(student):
        raise ValueError(
            f"method {method!r} needs class logits per pixel, {type(student).__name__} has none; use cwd or pkd"
        )
    return {"student": tap(student, "logits"), "teacher": tap(teacher, "logits")}


def features(method: str, student: nn.Module, teacher: nn.Module) -> dict[str, str]:
    """Return the taps of the classifier's input: before dropout where there is a layer to tap, else after it.

    Raises:
        ValueError: the student is no segmenter.
    """
    taps = logits(method, student, teacher)
    for side, model in (("student", student), ("teacher", teacher)):
        default = tap(model, "features")
        before = f"{taps[side]}:in" if taps[side].endswith(".conv_seg") else default
        taps[side] = default if default.startswith("decode_head.") else before
    return taps
