"""Universal self-distillation: soft labels of the student's own, without a teacher (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def uskd(
    student: nn.Module, teacher: nn.Module, alpha: float = 1.0, beta: float = 0.1, mu: float = 0.005
) -> list[dict[str, Any]]:
    """Smooth the student's own probability of the label, and rank the other classes by a weak head on a middle layer.

    The layer is the last stage of the backbone. The teacher is not read: any will do, `'ema'` costs no other network.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
    Loss and Customized Soft Labels", ICCV 2023; weights of ImageNet.
    """
    logits("uskd", student, teacher)
    middle = "backbone:-1" if hasattr(student, "backbone") else tap(student, "features")
    loss = {"type": "uskd", "alpha": alpha, "beta": beta, "mu": mu}
    other = "backbone:-1" if hasattr(teacher, "backbone") else tap(teacher, "features")
    return [{"loss": loss, "student": middle, "teacher": other}]
