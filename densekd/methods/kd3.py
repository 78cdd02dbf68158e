"""Distillation between distributions: the teacher's classifier and features, where both are sure (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method
from kdlosses.outputs import output_at


@method()
def kd3(student: nn.Module, teacher: nn.Module, kappa: float = 0.3, feature: float = 1.0) -> list[dict[str, Any]]:
    """Match logits, and the features before a classifier that both share, where the two are sure together.

    The student ends in the output `shared`, see `kdlosses.outputs.SharedClassifier`; the policy `share_classifier` puts
    the teacher's last layer there. What the paper mixes, images of another distribution, is of the recipe of graphs
    alone.

    Raises:
        ValueError: the student is no segmenter, or its last layer has no place for the teacher's.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023.
    Its formulas were not at hand: the weights are our own.
    """
    taps = logits("kd3", student, teacher)
    output_at(student, taps["student"], "shared", "method 'kd3'")
    its = features("kd3", student, teacher)["teacher"]
    weighed = {"type": "confident_feature", "kappa": kappa}
    return [
        {"loss": {"type": "confident", "kappa": kappa}, **taps},
        {"loss": weighed, "student": f"{taps['student']}.layer", "teacher": its, "weight": feature},
    ]
