"""Dual-head distillation: the teacher's logits on a second head, apart from the classifier (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method


@method()
def dual_head(
    student: nn.Module,
    teacher: nn.Module,
    tau: float = 2.0,
    wide: int = 200,
    dropout: float = 0.1,
    weight: float = 1.0,
) -> list[dict[str, Any]]:
    """Match the logits, scale included, by `dhkd` on a second head; the labels alone train the classifier.

    The head is no part of the student. It reads what the classifier reads. What of its gradient opposes that of the
    labels stays: `align` is of the recipe of graphs alone.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Yang et al., "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head", 2024;
    settings of CIFAR.
    """
    taps = {"student": features("dual_head", student, teacher)["student"]}
    head = {"type": "mlp", "wide": wide, "dropout": dropout}
    taps["teacher"] = logits("dual_head", student, teacher)["teacher"]
    return [{"loss": {"type": "dhkd", "tau": tau}, **taps, "head": head, "weight": weight}]
