"""Boundaries and bodies of classes apart (segmentation)."""

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
    """Match the classes of pixels on the edge of a class, and channel by channel what is away from it.

    Args:
        student: a segmenter.
        teacher: another one.
        edge: weight of `bpkd_edge`, tau 4. As published it is beside a schedule of 80,000 iterations, in which a
            student that first follows its teacher alone has the time to learn the labels as well.
        body: weight of `bpkd_body`, tau 4.
        kernel: side of the window that makes an edge, in pixels of the label: of crops of 512x1024 as published, so
            that small images want a smaller one.
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
