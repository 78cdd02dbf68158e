"""Edges and bodies of classes, with a loss for each (segmentation)."""

from __future__ import annotations

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method


@method()
def bpkd(
    student: nn.Module,
    teacher: nn.Module,
    edge: float = 50.0,
    body: float = 20.0,
    kernel: int = 7,
    present: bool = False,
) -> list[dict[str, Any]]:
    """Match class probabilities at the edges of classes, and spatial distributions away from them.

    Args:
        student: a segmenter.
        teacher: another one.
        edge: weight of `bpkd_edge`, tau 4. The published weight is for 80,000 iterations, long enough for a student
            that first follows its teacher to learn the labels as well.
        body: weight of `bpkd_body`, tau 4.
        kernel: side of the window that makes an edge, in pixels of the label: published for crops of 512x1024; small
            images need a smaller one.
        present: the edges count as the mean over the classes that have one in place of the sum.

    The weights are those of two re-implementations, which differ in `kernel`, 7 or 5, and in `present`.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation", WACV 2024.
    """
    taps = logits("bpkd", student, teacher)
    return [
        {"loss": {"type": "bpkd_edge", "kernel": kernel, "present": present}, **taps, "weight": edge},
        {"loss": {"type": "bpkd_body", "kernel": kernel}, **taps, "weight": body},
    ]
