"""A loss of mmseg's decode heads that spreads a teacher's predictions within a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.logging import MessageHub
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from densekd.registry import MODELS
from kdlosses.reduce import labelled
from kdlosses.rules.mcmi import conditional_information


@MODELS.register_module()
class MCMILoss(nn.Module):
    r"""Cross-entropy, and from a point of the training on minus the spread of predictions within a class.

    $$ L = \mathrm{CE} - \lambda \, I, \qquad I = \frac1n \sum_i \mathrm{KL}(P_i \,\|\, Q_{y_i}) $$

    over the labelled pixels of a batch, with Q the mean prediction of the pixels of a class in it, see
    `kdlosses.rules.mcmi`. A teacher that was trained so predicts pixels of a class less alike, and a student learns
    more from it. It stands where `CrossEntropyLoss` would, `loss_decode=dict(type='densekd.MCMILoss')`, in the config
    of the teacher: trained from its `start` on, or fine-tuned with `load_from` and `start=0`. A plain teacher is tuned
    by `densekd.fit(teacher, loss=...)` with that rule.

    Args:
        lam: $\lambda$; 0 is cross-entropy.
        start: share of the training before the second term counts.
        class_weight: of the cross-entropy.
        loss_weight: factor of the whole.
        loss_name: that it is logged under.
        **kwargs: of mmseg's `CrossEntropyLoss`.

    Raises:
        ValueError: `lam` is negative or `start` no share.

    Paper: Ye et al., "Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information", ICLR 2024: a trained teacher is fine-tuned in 20 epochs, of images; $\lambda$ 0.1 to 0.25. Means of a
    batch in place of means over the data are ours.
    """

    def __init__(
        self,
        lam: float = 0.15,
        start: float = 0.8,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_mcmi",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not 0 <= lam < math.inf or not 0 <= start <= 1:
            raise ValueError(f"MCMILoss: lam is not negative and start a share of the training, got {lam} and {start}")
        self.hard = CrossEntropyLoss(class_weight=class_weight, **kwargs)
        self.class_weight, self.lam, self.start = class_weight, lam, start
        self.loss_weight, self._name = loss_weight, loss_name

    @property
    def loss_name(self) -> str:
        """The name that the head logs it under."""
        return self._name

    def forward(
        self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **kwargs: Any
    ) -> Tensor:
        """The loss of logits `(N, C, H, W)` at labels `(N, H, W)`; pixels weigh in both terms."""
        loss = self.hard(cls_score, label, weight=weight, ignore_index=ignore_index, **kwargs)
        if self.lam and self._progress() >= self.start:
            safe, known = labelled(label, weight, ignore_index, cls_score.shape[1])
            scale = known if self.class_weight is None else known * cls_score.new_tensor(self.class_weight)[safe]
            loss = loss - self.lam * conditional_information(cls_score, safe, ignore_index=-1, weight=scale.float())
        return self.loss_weight * loss

    @staticmethod
    def _progress() -> float:
        hub = MessageHub.get_current_instance()
        done, last = hub.get_info("iter"), hub.get_info("max_iters")
        return done / last if done is not None and last else 1.0
