"""LPLD: what a detector's teacher is not sure of teaches as well."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from densekd.models.mean_teacher import OfProposals, Told
from densekd.registry import MODELS

FLOOR = 1e-9
"""Probability of background in the teacher's target."""


@MODELS.register_module()
class LPLD(OfProposals):
    r"""Adapt a two-stage detector to images without labels: sure boxes as labels, proposals of low confidence softly.

    As `MeanTeacher`. In addition the teacher's proposals whose refined box overlaps none of the sure boxes by more than
    `iou`, whose most probable class has at least `foreground` of the probability without background, and which are
    background with at most `background`, teach the student, on the same proposals in its view:

    $$\frac{w}{|K|} \sum_{k \in K} (1 - \cos(f_{S,k}, f_{T,k}))\,
    \mathrm{KL}([\mathrm{softmax}(z^{fg}_{T,k}), \epsilon] \,\|\, \mathrm{softmax}(z_{S,k}))$$

    with the teacher's logits of all classes but background in the target, and the student's of all classes. So the
    student moves away from background where its teacher sees a class, and most where their features f differ. The
    factor in front is constant in the gradient.

    Args:
        semi_train_cfg: as `MeanTeacher`; `iou`, `foreground`, `background`, and `lpl_weight`, w; `lpl_alone`, whether
            an image without any sure box teaches by proposals.

    Paper: Yoon et al., "Enhancing Source-Free Domain Adaptive Object Detection with Low-confidence Pseudo Label
    Distillation", ECCV 2024. Thresholds, w of 0.1 and the form of the loss are those of the authors' code. Theirs runs
    on one image a step, moves the average once an epoch by 0.75 (`momentum=0.75, interval=...`), and adds nothing for
    an image without a sure box (`lpl_alone=False`). Its features are those of a ResNet's last stage, averaged; here
    they are what the classifier reads.

    >>> LPLD.DEFAULTS["lpl_weight"]
    0.1
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        **OfProposals.DEFAULTS,
        "iou": 0.4,
        "foreground": 0.9,
        "background": 0.99,
        "lpl_weight": 0.1,
        "lpl_alone": True,
    }
    SHARES: ClassVar[tuple[str, ...]] = (*OfProposals.SHARES, "iou", "foreground", "background")

    def loss_by_proposals(self, scores: Tensor, features: Tensor, told: Told) -> dict[str, Tensor]:
        """The loss on proposals of low confidence."""
        options = self.semi_train_cfg
        chosen = []
        for image, boxes in enumerate(told.pseudo):
            of_image = told.images == image
            found = low_confidence(
                told.logits[of_image],
                told.boxes[of_image],
                boxes,
                options["iou"],
                options["foreground"],
                options["background"],
            )
            chosen.append(found if len(boxes) or options["lpl_alone"] else torch.zeros_like(found))
        rows = torch.cat(chosen)
        value = lpld(scores[rows], told.logits[rows], features[rows], told.features[rows])
        return {"loss_lpl": options["lpl_weight"] * value, "lpl_count": rows.sum().to(scores)}


def low_confidence(
    logits: Tensor, boxes: Tensor, sure: Tensor, iou: float = 0.4, foreground: float = 0.9, background: float = 0.99
) -> Tensor:
    """Which proposals of an image teach softly, `(n,)` bool: beside all sure boxes, of one class, not quite background.

    Args:
        logits: of the teacher, the last class background, `(n, K + 1)`.
        boxes: as the teacher refines them, `(n, 4)`, xyxy.
        sure: boxes of a high score, `(m, 4)`; there may be none.
        iou: the greatest overlap with one of them.
        foreground: least share of the most probable class of all but background.
        background: greatest probability of background.

    >>> logits = torch.tensor([[9.0, 0, 9], [9, 0, 9], [9, 8, 9], [0, 0, 9]])
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [8, 8, 12, 12], [8, 8, 12, 12], [8, 8, 12, 12]])
    >>> low_confidence(logits, boxes, boxes[:1]).tolist()
    [False, True, False, False]
    """
    free = bbox_overlaps(boxes, sure).amax(1) <= iou if len(sure) else logits.new_ones(len(logits), dtype=torch.bool)
    of_one = logits[:, :-1].softmax(1).amax(1) >= foreground
    return free & of_one & (logits.softmax(1)[:, -1] <= background)


def lpld(student: Tensor, teacher: Tensor, student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """The mean of the loss of `LPLD` over proposals, without its weight; 0 where there are none.

    Args:
        student: class logits, the last class background, `(n, K + 1)`.
        teacher: likewise.
        student_features: `(n, D)`; they weigh, and are not moved.
        teacher_features: `(n, D)`.

    >>> logits, features = torch.tensor([[5.0, 0, 0]]), torch.tensor([[1.0, 0]])
    >>> lpld(logits, logits, features, features).item()
    0.0
    >>> bool(lpld(logits.flip(1), logits, -features, features) > lpld(logits, logits, -features, features))
    True
    """
    if not len(student):
        return student.sum() + student_features.sum() * 0
    told = teacher[:, :-1].detach().log_softmax(1)
    target = torch.cat([told.exp(), told.new_full((len(told), 1), FLOOR)], dim=1)
    logs = torch.cat([told, target[:, -1:].log()], dim=1)
    apart = (target * (logs - student.log_softmax(1))).sum(1)
    factor = 1 - torch.cosine_similarity(student_features.detach(), teacher_features.detach(), dim=1)
    return (factor * apart).mean()
