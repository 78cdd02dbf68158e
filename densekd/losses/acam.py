from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.losses.receptive_tokens import overlap
from kdlosses import register
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean

_LEAST = 0.05
_EVERY = 100  # calls between checks of the mean mask: each check waits for the device


@register
class ACAM(nn.Module):
    r"""Adaptive and cooperative attention masks: squared error under learned masks of positions and channels.

    The teacher's positions attend to the student's, $F = \mathrm{softmax}(Q K^\top / \sqrt{C/2}) \, V$ with learned
    linear maps $Q = W_q f^t$, $K = W_k f^s$, $V = W_v f^s$; M masks over channels and M over positions follow from F:

    $$ M^c_m = \sigma(a_m \, \mathrm{mean}_i F_i) \in (0, 1)^C, \qquad M^s_{mi} = \sigma(b_m \cdot F_i), $$

    $$ L = \mathrm{mean}_n \frac1M \sum_m \Big[ \frac{1}{hw} \sum_{ic} M^c_{mc} (f^s_{ic} - f^t_{ic})^2
       + \frac1C \sum_{ic} M^s_{mi} (f^s_{ic} - f^t_{ic})^2 \Big]
       + \lambda \, \mathrm{mean}_n \sum_{m \ne l} \big[ \mathrm{dice}(M^c_m, M^c_l)
       + \mathrm{dice}(M^s_m, M^s_l) \big]. $$

    The term of positions is a sum over them, and grows with the map: for 19 classes on 64 x 128 it is 431 times a mean.

    The masks weigh the errors and get no gradient from them: the last term shapes them, and they follow the features.
    Else all may fall to 0, as the student's features grow to bring that about: so a GFL detector on digit scenes
    learned no classes at one seed of three. `mean_mask` has the means of both kinds of masks in the last call, and a
    warning is given once if one falls below 0.05.

    Args:
        channels: C, of both sides: unlike channels are aligned before.
        count: M, masks of either kind. Published: 6 for detectors, the number of classes for segmenters.
        diversity: $\lambda$.
        keys: the student's map is averaged to at most this many cells a side before it is attended to; no matrix of
            positions by positions is built.
        normalise: divide each mask by its mean, so that none counts for less as it shrinks.
        spatial_mean: the term of positions is their mean, as that of channels is, C / (h w) of the published one: the
            same for maps of any size.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.
        weight: `(N, h, w)`, positions to count; the others are not attended to.

    Paper: Lan and Tian, "ACAM-KD: Adaptive and Cooperative Attention Masking for Knowledge Distillation", ICCV 2025.
    Factors 1, weights 1, lambda 1. There is no code of the authors. Our own: the width of V, keys and values of
    averaged cells, masks without a gradient of the errors, `normalise`, `spatial_mean`.

    >>> import torch
    >>> loss = ACAM(channels=4, count=3, diversity=0.0)
    >>> f = torch.randn(2, 4, 5, 6)
    >>> loss(f, f).item(), loss(f, f + 1).item() > 0
    (0.0, True)
    """

    mean_mask: Tensor

    def __init__(
        self,
        channels: int,
        count: int = 6,
        diversity: float = 1.0,
        keys: int = 32,
        normalise: bool = False,
        spatial_mean: bool = False,
    ) -> None:
        super().__init__()
        self.diversity, self.keys, self.normalise, self.spatial_mean = diversity, keys, normalise, spatial_mean
        inner = max(1, channels // 2)
        self.query = Pointwise(channels, inner)
        self.key = Pointwise(channels, inner)
        self.value = Pointwise(channels, channels)
        self.of_channels = nn.Parameter(torch.randn(count, 1))
        self.of_positions = nn.Parameter(torch.randn(count, channels) / math.sqrt(channels))
        self.register_buffer("mean_mask", torch.full((2,), 0.5), persistent=False)
        self._calls, self._warned = 0, False

    def attend(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return F `(N, C, h w)`: each position of the teacher attends to the student's."""
        cells = (min(student.shape[2], self.keys), min(student.shape[3], self.keys))
        log_w = None
        if weight is None:
            pooled = F.adaptive_avg_pool2d(student, cells)
        else:
            share = F.adaptive_avg_pool2d(weight.to(student.dtype).unsqueeze(1), cells)
            least = torch.finfo(student.dtype).tiny
            pooled = F.adaptive_avg_pool2d(student * weight.unsqueeze(1), cells) / share.clamp_min(least)
            log_w = share.log().clamp_min(torch.finfo(student.dtype).min / 4).flatten(2).unsqueeze(1)
        q, k, v = (x.flatten(2).mT.unsqueeze(1) for x in (self.query(teacher), self.key(pooled), self.value(pooled)))
        # memory-efficient attention kernels need one width, a multiple of 8; zeros change nothing
        width = -(-v.shape[3] // 8) * 8
        q, k, v = (F.pad(x, (0, width - x.shape[3])) for x in (q, k, v))
        scale = 1 / math.sqrt(self.query.out_features)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=log_w, scale=scale)
        return found[:, 0, :, : student.shape[1]].mT

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        found = self.attend(student, teacher, weight)
        every = None if weight is None else weight.flatten(1).to(found.dtype)
        if every is None:
            pooled = found.mean(2)
        else:
            pooled = (found @ every.unsqueeze(2)).squeeze(2) / every.sum(1, keepdim=True).clamp_min(
                torch.finfo(every.dtype).tiny
            )
        of_channels = torch.sigmoid(self.of_channels * pooled.unsqueeze(1))  # (N, M, C)
        of_positions = torch.sigmoid(self.of_positions @ found)  # (N, M, h w)
        self._look(of_channels, of_positions)
        apart = overlap(of_channels) + overlap(of_positions, every)
        of_channels, of_positions = of_channels.detach(), of_positions.detach()
        if self.normalise:
            of_channels = _of_mean_one(of_channels)
            of_positions = _of_mean_one(of_positions, every)
        error = (student - teacher).square().flatten(2)
        ones = torch.ones_like(of_channels[:, :1])
        by_channel, whole = (torch.cat([of_channels.mean(1, keepdim=True), ones], 1) @ error).unbind(1)
        by_position = of_positions.mean(1) * whole
        images = None if every is None else (every > 0).any(1)
        if self.spatial_mean:
            loss = weighted_mean(by_channel + by_position, every)
        else:
            summed = (by_position if every is None else by_position * every).sum(1) / student.shape[1]
            loss = weighted_mean(by_channel, every) + weighted_mean(summed, images)
        return loss + self.diversity * weighted_mean(apart, images)

    @torch.no_grad()
    def _look(self, of_channels: Tensor, of_positions: Tensor) -> None:
        self.mean_mask.copy_(torch.stack([of_channels.mean(), of_positions.mean()]))
        if torch.compiler.is_compiling() or self._warned or self.normalise:
            return
        if self._calls % _EVERY == 0 and self.mean_mask.min() < _LEAST:
            self._warned = True
            warnings.warn(
                "acam: the masks vanish, and with them the loss: their means are "
                + " over channels and ".join(f"{mean:.3f}" for mean in self.mean_mask.tolist())
                + " over positions; use normalise=True",
                stacklevel=2,
            )
        self._calls += 1


def _of_mean_one(masks: Tensor, weight: Tensor | None = None) -> Tensor:
    if weight is None:
        return masks / masks.mean(2, keepdim=True)
    mass = weight.sum(1).clamp_min(torch.finfo(weight.dtype).tiny).view(-1, 1, 1)
    return masks / (masks @ weight.unsqueeze(2) / mass).clamp_min(1e-12)
