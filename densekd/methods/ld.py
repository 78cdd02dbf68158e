"""Localisation distillation: the distributions of the sides of boxes, where there are objects (detectors like GFL)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekd.methods.registry import method
from densekd.taps.dense_heads import DenseHead, heads_of


@method()
def ld(
    student: nn.Module,
    teacher: nn.Module,
    tau: float = 10.0,
    weight: float = 0.25,
    valuable: float = 0.25,
    classes: float = 0.25,
    class_tau: float = 2.0,
) -> list[dict[str, Any]]:
    """Match the distances to the sides of boxes as distributions, where the student's assigner gives an object.

    Positions count by the student's largest class score, as in the head's own loss of boxes. Beside it the same near
    objects, in the valuable region (see `densekd.mmlab.assigned.valuable`; a position with an object counts in the main
    region alone), and the classes, a softmax over their logits, where there are objects. Means are over the positions
    of all levels.

    Args:
        student: a detector with the head of GFL.
        teacher: another one with as many bins.
        tau: temperature of the distances.
        weight: of the main region.
        valuable: weight of the valuable region; 0 for none.
        classes: weight of the classes; 0 for none.
        class_tau: their temperature.

    Raises:
        ValueError: a head tells no distributions, or the two differ in bins, levels or classes.

    Paper: Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022. Temperatures are published.
    Weights are not: the authors' are 0.25, 0.25 and 10 for sums over positions and means over bins or classes, see the
    loss `ld`.
    """
    mine, its = heads_of("ld", student, teacher, "distribution")
    if not (weight or valuable or classes):
        raise ValueError("method 'ld': all three weights are 0: nothing is compared")
    bins = [model.bbox_head.reg_max + 1 for model in (student, teacher)]  # type: ignore[union-attr, operator]
    if bins[0] != bins[1]:
        raise ValueError(
            f"method 'ld': the student tells {bins[0]} bins a side, the teacher {bins[1]}: reg_max must agree"
        )
    boxes, scores = [
        {"student": _boxes(mine), "teacher": _boxes(its)},
        {"student": mine.classes.last, "teacher": its.classes.last},
    ]
    both = {side: f"{boxes[side]}+{scores[side]}" for side in boxes}
    loss = {"type": "ld", "tau": tau}
    entries = [
        {"loss": loss, **both, "where": "objects", "weight": weight, "through": Scored(mine.levels), "name": "ld"},
        {"loss": loss, **boxes, "where": "valuable", "weight": valuable, "name": "ld_valuable"},
        {
            "loss": {"type": "ld", "sides": 1, "tau": class_tau},
            **scores,
            "where": "objects",
            "weight": classes,
            "name": "ld_classes",
        },
    ]
    return [{**entry, "join": True, "adapt": "none"} for entry in entries if entry["weight"]]


def _boxes(head: DenseHead) -> str:
    """Tap of the distributions, which are scaled by a factor of each level."""
    return "+".join(f"bbox_head.scales.{i}" for i in range(head.levels))


class Scored(nn.Module):
    """Weigh each position by the student's largest class score, through which no gradient flows.

    Args:
        levels: how many there are of the first tensors, and of class logits after them.

    >>> boxes, classes = torch.zeros(1, 8, 2, 2), torch.zeros(1, 3, 2, 2)
    >>> student, teacher, weights = Scored(1)([boxes, classes], [boxes + 1, classes + 1])
    >>> len(student), teacher[0].mean().item(), weights[0].mean().item()
    (1, 1.0, 0.5)
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], list[Tensor]]:
        scores = [torch.sigmoid(each.detach().float()).amax(1) for each in student[self.levels :]]
        return student[: self.levels], teacher[: self.levels], scores
