"""Attention over maps of the ground: of several views and times, and over what a language model can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.texts import TextTable
from kdlosses.unit import unit


class ViewAttention(nn.Module):
    r"""Fuse maps of the same ground, of sensors, cameras and times, by attention in each cell.

    With $x_k$ the map of view k in a common width C, by a 1x1 convolution for each kind of view,

    $$ a_{ik} = \mathrm{softmax}_k \frac{q_i \cdot (W_k x_{ik})}{\sqrt C}, \qquad
       q_i = W_q \, \mathrm{mean}_k \, x_{ik}, \qquad y_i = W_o \sum_k a_{ik} \, W_v x_{ik}. $$

    The module `logits` yields what the softmax is taken of, `(B, K, h, w)`: two detectors with the same views can be
    compared there, by `kl`.

    Args:
        in_channels: of the maps of each kind of view.
        channels: C, of the result.

    >>> attend = ViewAttention([4, 6], 8)
    >>> lidar, cameras = torch.rand(2, 1, 4, 5, 5), torch.rand(2, 3, 6, 5, 5)
    >>> attend([lidar, cameras]).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.logits = nn.Identity()
        self.leave = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Fuse maps `(B, K, C, h, w)` of each kind, any K; `(B, C, h, w)`."""
        if len(views) != len(self.enter):
            raise ValueError(f"a ViewAttention of {len(self.enter)} kinds of views got {len(views)}")
        entered = [enter(each.flatten(0, 1)).unflatten(0, each.shape[:2]) for enter, each in zip(self.enter, views)]
        maps = torch.cat(entered, 1)
        batch = maps.shape[:2]
        keys, values = (part(maps.flatten(0, 1)).unflatten(0, batch) for part in (self.key, self.value))
        query = self.query(maps.mean(1)).unsqueeze(1)
        shares = self.logits((query * keys).sum(2) / math.sqrt(maps.shape[2])).softmax(1)
        return self.leave((shares.unsqueeze(2) * values).sum(1))


class TextFusion(nn.Module):
    r"""Let each cell of a map attend to what may be said of an object, and weigh that against what was seen.

    With the frozen embeddings $t_k$ of all sentences of a table, and the map f,

    $$ s_i = W_v \sum_k \mathrm{softmax}_k \big( \cos(W_q f_i, t_k) / \tau \big) \, t_k, \qquad
       g = \sigma\big( \mathrm{MLP}[\mathrm{mean}_i f_i;\, \mathrm{mean}_i s_i] \big), \qquad
       y_i = g \odot f_i + (1 - g) \odot s_i. $$

    One share g for each channel of each frame. The module `query` yields $W_q f$, which the loss `omniscene` with
    `project=False` teaches to be the sentence about the object there. Embeddings are part of the `state_dict`.

    Args:
        channels: of the map.
        texts: embeddings of the sentences `(K, D)`.
        tau: $\tau$.

    >>> fusion = TextFusion(8, torch.randn(5, 3))
    >>> fusion(torch.rand(2, 8, 4, 4)).shape, fusion.query(torch.rand(2, 8, 4, 4)).shape
    (torch.Size([2, 8, 4, 4]), torch.Size([2, 3, 4, 4]))
    """

    texts: Tensor

    def __init__(self, channels: int, texts: Tensor, tau: float = 0.07) -> None:
        super().__init__()
        if not tau > 0:
            raise ValueError(f"TextFusion: tau must be positive, got {tau}")
        self.tau = tau
        self.register_buffer("texts", unit(texts.float(), 1))
        self.query = nn.Conv2d(channels, texts.shape[1], 1)
        self.value = nn.Linear(texts.shape[1], channels)
        hidden = max(8, channels // 4)
        last = nn.Linear(hidden, channels)
        nn.init.constant_(last.bias, 2.0)  # at first what was seen counts most
        self.gate = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), last)

    def said(self, maps: Tensor) -> Tensor:
        """What each cell says: shares of the sentences `(B, K, h, w)`."""
        cosines = torch.einsum("bdhw,kd->bkhw", F.normalize(self.query(maps), dim=1), self.texts)
        return (cosines / self.tau).softmax(1)

    def forward(self, maps: Tensor) -> Tensor:
        spoken = torch.einsum("bkhw,kc->bchw", self.said(maps), self.value(self.texts))
        share = self.gate(torch.cat([maps.mean((2, 3)), spoken.mean((2, 3))], 1)).sigmoid()[:, :, None, None]
        return share * maps + (1 - share) * spoken


class HierarchicalFusion(nn.ModuleList):
    """A `TextFusion` for each level of a backbone: what is seen and what may be said, weighed at every level.

    Args:
        channels: of the levels.
        table: file of a `TextTable`, of any language model.
        tau: see `TextFusion`.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds no embeddings.

    Paper: after the hierarchical fusion in the abstract of "OmniScene: Attention-Augmented Multimodal 4D Scene
    Understanding for Autonomous Driving", 2025: shares of geometry and semantics that are learned at several levels.
    The form is our own.
    """

    def __init__(self, channels: Sequence[int], table: str | Path, tau: float = 0.07) -> None:
        texts = TextTable(table).vectors
        super().__init__(TextFusion(width, texts, tau) for width in channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        if len(levels) != len(self):
            raise ValueError(f"a HierarchicalFusion of {len(self)} levels got {len(levels)}")
        return [fusion(level) for fusion, level in zip(self, levels)]
