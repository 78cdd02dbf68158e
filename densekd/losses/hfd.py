from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register, weighted_mean
from kdlosses.unit import cosines


@register(match="positions", categorical=True)
class HFD(nn.Module):
    r"""Heterogeneous feature distillation: match low-level features of a CNN and a transformer by a translator.

    With g a learned translator, over the positions i of a map,

    $$ L = \mathrm{mean}_i \, \big(1 - \cos(g(f^s)_i, f^t_i)\big) \;\in [0, 2]. $$

    Where the teacher is a transformer, g is a 1x1 convolution and a block of self-attention: each position attends to
    all others. Where it is a convolutional network, g is two 3x3 convolutions, each with batch normalisation and ReLU.
    Larger maps are pooled first.

    Args:
        student_channels: of the student's features.
        teacher_channels: of the teacher's.
        translate: `attention` or `convolution`.
        heads: of the attention; as many of them as divide the teacher's channels.
        size: side of the largest map that is not pooled.

    `forward`:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        weight: `(N, h, w)`, positions to count.

    Raises:
        ValueError: an unknown translator.

    Paper: Zhu et al., "A Good Student is Cooperative and Reliable: CNN-Transformer Collaborative Learning for Semantic
    Segmentation", ICCV 2023, for the idea. Its formulas were not available to us: the translators and the cosine are
    our own. Factor 1, weight 0.1.

    >>> import torch
    >>> loss = HFD(student_channels=3, teacher_channels=8)
    >>> loss(torch.randn(2, 3, 6, 6), torch.randn(2, 8, 6, 6)).shape
    torch.Size([])
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, translate: str = "attention", heads: int = 4, size: int = 32
    ) -> None:
        super().__init__()
        if translate not in ("attention", "convolution"):
            raise ValueError(f"hfd: translate must be 'attention' or 'convolution', got {translate!r}")
        kind = ToAttention if translate == "attention" else ToConvolution
        self.translate = kind(student_channels, teacher_channels, heads)
        self.size = size

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        weight = torch.ones_like(student[:, 0]) if weight is None else weight.to(student.dtype)
        size = min(self.size, student.shape[2]), min(self.size, student.shape[3])
        student, teacher, weight = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher, weight))
        return weighted_mean(1 - cosines(self.translate(student, weight), teacher, dim=1), weight)


class ToAttention(nn.Module):
    """A 1x1 convolution and a block of self-attention over the positions of a map."""

    def __init__(self, channels: int, out_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = math.gcd(heads, out_channels)
        self.project = nn.Conv2d(channels, out_channels, 1)
        self.norm = nn.LayerNorm(out_channels)
        self.qkv = nn.Linear(out_channels, 3 * out_channels)
        self.out = nn.Linear(out_channels, out_channels)

    def forward(self, maps: Tensor, weight: Tensor) -> Tensor:
        """Translate `(N, C, h, w)`; nothing attends to positions of weight 0."""
        maps = self.project(maps)
        tokens = maps.flatten(2).mT
        query, key, value = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = weight.flatten(1).log().clamp_min(torch.finfo(weight.dtype).min / 4)  # finite where nothing counts
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        return (tokens + self.out(mixed.transpose(1, 2).flatten(2))).mT.reshape(maps.shape)


class ToConvolution(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, channels: int, out_channels: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for width in (channels, out_channels):
            self.layers.append(nn.Conv2d(width, out_channels, 3, padding=1, bias=False))
            self.layers.append(nn.BatchNorm2d(out_channels))
            self.layers.append(nn.ReLU())

    def forward(self, maps: Tensor, weight: Tensor) -> Tensor:
        """Translate `(N, C, h, w)`."""
        return self.layers(maps)
