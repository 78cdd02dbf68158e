from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.registry import build, register


@register(match="inner")
class Balance(nn.Module):
    r"""Several losses on the same pair, weighted so that all fall at the same rate.

    $$ L = \sum_k a_k L_k, \quad
       a_k \leftarrow a_k - r \Big(a_k - \frac{\hat L_k}{\sum_j \hat L_j}\Big), \quad \hat L_k = L_k / L_k(0) $$

    A loss that lags behind gains weight. The weights start equal and always sum to 1; $L_k(0)$ is the value of the
    first call. Both are state, moved in training mode after each call that counts a position, and are in the
    checkpoint. A loss that was 0 in the first call counts as one that has not moved.

    Args:
        losses: what `kdlosses.build` takes, several of it.
        rate: r.

    `forward`:
        student: as the losses inside want it.
        teacher: likewise.
        weight: `(N, *)`, positions to count.
        context: what the losses inside name.

    Raises:
        ValueError: there are no losses.

    Paper: Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Multi-Teacher Adversarial Distillation", 2024;
    there of two losses, see `mtard`. Factor 1.

    >>> loss = build(dict(type="balance", losses=["kl", "rkl"], rate=0.5))
    >>> s, t = torch.zeros(1, 2), torch.tensor([[0.0, 1.0986]])
    >>> (loss(s, t) - (0.1308 + 0.1438) / 2).abs().item() < 1e-3
    True
    """

    weights: Tensor
    first: Tensor

    def __init__(self, losses: Sequence[Any] = ("kl", "rkl"), rate: float = 0.025) -> None:
        super().__init__()
        if not losses:
            raise ValueError("balance: losses is empty; pass at least one loss")
        self.losses = nn.ModuleList(build(loss) for loss in losses)
        self.rate = rate
        self.register_buffer("weights", torch.full((len(losses),), 1 / len(losses)))
        self.register_buffer("first", torch.full((len(losses),), torch.nan))  # no call yet

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        values = torch.stack([loss(student, teacher, weight=weight, **context) for loss in self.losses])
        total = (self.weights.to(values.dtype, copy=True) * values).sum()  # a copy: it moves before the backward
        if self.training:
            counts = torch.ones_like(total) if weight is None else weight.sum()
            follow(self.weights, self.first, values.detach(), self.rate, counts > 0)
        return total


@torch.no_grad()
def follow(weights: Tensor, first: Tensor, values: Tensor, rate: float, counts: Tensor) -> None:
    r"""Move the weights of losses, in place, towards $\hat L_k / \sum_j \hat L_j$ by the share `rate`.

    Args:
        weights: of sum 1.
        first: the first values, NaN until there are some; filled in place.
        values: of the losses now.
        rate: 0 to 1.
        counts: whether this call counts.

    >>> weights, first = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])
    >>> follow(weights, first, torch.tensor([1.0, 6.0]), 0.5, torch.tensor(True))
    >>> weights  # 1 and 3 times what they were: half way to 1/4 and 3/4
    tensor([0.3750, 0.6250])
    """
    values = values.to(first.dtype)
    counts = counts & values.isfinite().all()
    first.copy_(torch.where(counts & first.isnan(), values, first))
    pace = torch.where(first > 0, values / first.where(first > 0, 1), 1)
    share = pace / pace.sum().clamp_min(torch.finfo(pace.dtype).tiny)
    moved = weights - rate * (weights - share)
    weights.copy_(torch.where(counts & (pace.sum() > 0), moved / moved.sum(), weights))
