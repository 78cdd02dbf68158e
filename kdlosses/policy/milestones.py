from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdlosses.registry import build, register
from kdlosses.schedule import scaled


@register(match="inner")
class Milestones(nn.Module):
    r"""Any loss times a factor that is multiplied by $\gamma$ at each milestone.

    $$ L = \gamma^{\,|\{ m \,:\, \mathrm{progress} \ge m \}|} \; \ell(s, t) $$

    Args:
        loss: what `kdlosses.build` takes.
        at: milestones, as shares of the training, in rising order.
        gamma: what each of them multiplies by; at 0 the loss is off after the first one, as in `until`.

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        progress: share of the training that is done, 0 to 1.
        context: what the loss inside names.

    Raises:
        ValueError: milestones outside of (0, 1] or out of order, `gamma` below 0.

    Paper: Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Multi-Teacher Adversarial Distillation",
    2024, divide the rate of their weights by 10 at epochs 215, 260 and 285 of 300, as they do the learning rate; those
    are the defaults. To put it on a loss is our own.

    >>> import torch
    >>> loss, s, t = build(dict(type="milestones", loss="mse", at=(0.5, 0.8))), torch.zeros(1, 2), torch.ones(1, 2)
    >>> [round(loss(s, t, progress=p).item(), 4) for p in (0.49, 0.5, 0.8)]
    [1.0, 0.1, 0.01]
    """

    def __init__(
        self, loss: Any = "kl", at: Sequence[float] = (215 / 300, 260 / 300, 285 / 300), gamma: float = 0.1
    ) -> None:
        super().__init__()
        if not at or list(at) != sorted(set(at)) or not 0 < at[0] <= at[-1] <= 1:
            raise ValueError(f"milestones: at must be shares of the training from 0 to 1 in rising order, got {at!r}")
        if gamma < 0:
            raise ValueError(f"milestones: gamma must be at least 0, got {gamma}")
        self.loss = build(loss)
        self.at, self.gamma = tuple(at), gamma

    def forward(self, student: Tensor, teacher: Tensor, progress: float, **context: Any) -> Tensor:
        context["progress"] = progress
        return scaled(self.factor(progress), self.loss, student, teacher, context)

    def factor(self, progress: float) -> float:
        """Factor at this point of the training."""
        return self.gamma ** sum(progress >= milestone for milestone in self.at)

    def active(self, progress: float, **context: Any) -> bool:
        """Whether the factor is not 0 and the loss inside is active."""
        return self.factor(progress) != 0 and self.loss.active(progress=progress, **context)
