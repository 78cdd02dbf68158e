"""Targets for a tolerant teacher: shapes as an active shape model draws them."""

from __future__ import annotations

import torch
from torch import Tensor


class SoftTargets:
    r"""The main ways in which shapes vary, learned on some; it makes any shape one of these.

    With the mean $\mu$ and the first k principal axes $P$ of shapes $y$, of variances $\lambda$,

    $$ \tilde y = \mu + P b, \quad b = \mathrm{clip}\big(P^\top (y - \mu), \pm c \sqrt{\lambda}\big), $$

    k being the least number of axes that hold the share of the variance. A teacher that learns $\tilde y$ is tolerant:
    it does not follow what is particular to a shape, and its errors are the bounds of `assistive`.

    Args:
        targets: shapes `(N, C)`, such as the coordinates of landmarks, of the training set alone; rows with NaN are
            left out.
        share: of the variance, above 0 and at most 1. Our default; the authors name none.
        bound: c, in standard deviations.

    Raises:
        ValueError: there are fewer than two shapes, or the share is no share.

    Paper: Fard and Mahoor, "Facial Landmark Points Detection Using Knowledge Distillation-Based Neural Networks", 2022,
    after Cootes et al., "Active Shape Models", 1995.

    >>> line = torch.tensor([[0.0, 0.0], [2.0, 2.1], [4.0, 4.0], [6.0, 5.9]])
    >>> SoftTargets(line, share=0.9)(torch.tensor([[3.0, 5.0]]))  # the nearest point on the line
    tensor([[3.9998, 3.9801]])
    """

    def __init__(self, targets: Tensor, share: float = 0.9, bound: float = 3.0) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"soft targets: share must be above 0 and at most 1, got {share}")
        known = targets[~targets.isnan().any(1)].double()
        if len(known) < 2:
            raise ValueError(f"soft targets: a shape model needs two shapes or more, got {len(known)}")
        self.mean = known.mean(0)
        _, spread, axes = torch.linalg.svd(known - self.mean, full_matrices=False)
        variance = spread.square() / (len(known) - 1)
        held = variance.cumsum(0) / variance.sum()
        count = int((held < share - 1e-12).sum()) + 1
        self.axes, self.most = axes[:count], bound * variance[:count].sqrt()

    def __call__(self, targets: Tensor) -> Tensor:
        """Soft targets `(N, C)` of any shapes; NaN stays NaN."""
        along = (targets.double() - self.mean) @ self.axes.T
        return (self.mean + torch.maximum(torch.minimum(along, self.most), -self.most) @ self.axes).to(targets.dtype)
