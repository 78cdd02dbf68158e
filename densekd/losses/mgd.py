from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.reduce import weighted_mean


@register
class MGD(nn.Module):
    r"""Masked generation: generate the teacher's whole feature from randomly masked features of the student.

    $$ L = \sum_i w_i \big\| \mathcal G(m \odot f^s)_i - f^t_i \big\|^2 \Big/ \sum_i w_i, \qquad
       \mathcal G = W_2 * \mathrm{ReLU}(W_1 * \cdot), $$

    with 3x3 convolutions $W_1, W_2$ that are learned and a mask m that is 0 at each position with probability `share`,
    for all of its channels, drawn anew at every step. The squared error is summed over channels and counts at every
    position, hidden or not. In evaluation mode nothing is hidden.

    Args:
        channels: C, of both sides: unlike channels are aligned before.
        share: probability of a position to be hidden, in [0, 1). Published: 0.75 for segmenters, 0.65 for one-stage and
            0.45 for two-stage detectors.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.
        weight: `(N, h, w)`, positions to count; one of weight 0 is treated as outside of the map.

    Paper: Yang et al., "Masked Generative Distillation", ECCV 2022. There the error is summed over positions, too: the
    published alpha (2e-5; 5e-7 for two-stage detectors) times h w is the weight here. At stride 8 of 512x1024, 0.164.

    >>> import torch
    >>> loss = MGD(channels=4).eval()
    >>> f = torch.randn(2, 4, 5, 6)
    >>> loss(f, torch.zeros_like(f)) > loss(f, loss.generate(f))
    tensor(True)
    """

    def __init__(self, channels: int, share: float = 0.75) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"mgd: share must be in [0, 1), got {share}")
        self.share = share
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def generate(self, features: Tensor, weight: Tensor | None = None) -> Tensor:
        """Generate the teacher's features from `(N, C, h, w)`, of which masked positions are 0."""
        hidden = F.relu(self.first(features), inplace=True)
        if weight is not None:
            hidden = hidden * (weight > 0).unsqueeze(1)
        return self.second(hidden)

    def hide(self, features: Tensor) -> Tensor:
        """Set a share of the positions to 0 in training."""
        if not self.training or not self.share:
            return features
        n, _, h, w = features.shape
        return features * (torch.rand(n, 1, h, w, device=features.device) >= self.share)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_mean((self.generate(self.hide(student), weight) - teacher).square().sum(1), weight)
