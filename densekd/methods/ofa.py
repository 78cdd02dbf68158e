"""One-for-all: every stage of the student meets the teacher as class logits (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method


@method()
def ofa(student: nn.Module, teacher: nn.Module, gamma: float = 1.0) -> list[dict[str, Any]]:
    """Match the teacher's logits by `ofa` with the student's, and with those of a branch on each stage of its backbone.

    A branch is what `kdlosses.heads.Branch` is, learned beside the student and no part of it: features of unlike
    architectures are never compared. All weights 1, tau 1.

    Raises:
        ValueError: the student is no segmenter with a backbone.

    Paper: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
    NeurIPS 2023. Their branches end in one vector an image; that ours keep the map is our own.
    """
    taps = logits("ofa", student, teacher)
    if not hasattr(student, "backbone"):
        raise ValueError(
            f"method 'ofa' puts branches on the stages of a backbone, {type(student).__name__} has none: write entries "
            "dict(loss='ofa', student='path of a stage', teacher='path of the logits', head='branch')"
        )
    loss = {"type": "ofa", "gamma": gamma}
    branches = {"student": "backbone", "teacher": taps["teacher"], "head": "branch", "name": "ofa_stages"}
    return [{"loss": loss, **taps}, {"loss": loss, **branches}]
