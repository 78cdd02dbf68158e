"""A light teacher with the label as an input (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def lad(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the spatial distribution of each class logit; tau 4, weight 3.

    The method is in the teacher, a network no larger than the student with the label as an extra input: see
    `densekd.models.LabelAssistedEncoderDecoder` and `configs/seg/lad/`. With any other teacher this is `cwd`. The
    authors' students have an auxiliary head of weight 0.02.

    Paper: Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for
    Semantic Segmentation", ECCV 2024.
    """
    taps = {"student": tap(student, "logits"), "teacher": tap(teacher, "logits")}
    return [{"loss": {"type": "cwd", "tau": 4.0}, **taps, "weight": 3.0, "name": "lad"}]
