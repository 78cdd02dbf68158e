"""Fuse the levels of a student, from the coarsest to the finest, before they are compared with the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class CSF(nn.ModuleList):
    r"""Cross selective fusion: each level of the student learns its share of the coarser ones.

    With $x_l = \mathrm{BN}(W_l f_l)$ the level $l$ in a common width, $z_L = x_L$ the coarsest, and
    $y_l = \mathrm{up}(z_{l+1})$ what comes from there (nearest neighbour),

    $$ z_l = a_l \odot x_l + (1 - a_l) \odot y_l, \qquad
       (a_l, 1 - a_l) = \mathrm{softmax}\big( V_l \, \mathrm{ReLU}(\mathrm{LN}(U_l \,
       \mathrm{mean}_{hw}(x_l + y_l))) \big), $$

    one share $a_l$ for each channel of each image. The teacher's level is compared with $\mathrm{BN}(K_l * z_l)$, a 3x3
    convolution to its width, resized bilinearly to its size.

    The authors use batch normalisation before the ReLU, and separate weights without it for batches of one image. Here
    it is a layer normalisation, the same for any batch size. That is our own choice.

    Args:
        student: levels of the student `(B, C_l, h_l, w_l)`, from the finest to the coarsest; at least two.
        teacher: as many levels of the teacher.
        width: channels while fusing.

    Raises:
        ValueError: fewer than two levels, or a level that is not a map.

    Paper: Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation", IEEE T-ITS
    2024. Each pair goes to `hcl` there, with weight 1.

    >>> import torch
    >>> levels = [torch.zeros(2, 8, 16, 16), torch.zeros(2, 12, 8, 8)]
    >>> wider = [torch.zeros(2, 20, 16, 16), torch.zeros(2, 24, 8, 8)]
    >>> [tuple(s.shape) for s, t in CSF(levels, wider)(levels, wider)]
    [(2, 20, 16, 16), (2, 24, 8, 8)]
    """

    def __init__(self, student: Sequence[Tensor], teacher: Sequence[Tensor], width: int = 64) -> None:
        if len(student) < 2:
            raise ValueError("adapt='csf' fuses levels, but the tap yields one; tap 'backbone' for all levels")
        for side, levels in (("student", student), ("teacher", teacher)):
            if any(level.ndim != 4 for level in levels):
                shapes = ", ".join(str(tuple(level.shape)) for level in levels)
                raise ValueError(f"adapt='csf' fuses maps (B, C, h, w), the {side}'s tap yields {shapes}")
        last = len(student) - 1
        super().__init__(
            Fusion(s.shape[1], t.shape[1], width, fuses=level < last)
            for level, (s, t) in enumerate(zip(student, teacher))
        )

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: object = None
    ) -> list[tuple[Tensor, Tensor]]:
        pairs: list[tuple[Tensor, Tensor]] = []
        fused: Tensor | None = None
        for fusion, s, t in zip(reversed(self), reversed(student), reversed(teacher)):
            assert isinstance(fusion, Fusion)
            fused = fusion(s, fused)
            mapped = fusion.leave(fused)
            if mapped.shape[2:] != t.shape[2:]:
                mapped = F.interpolate(mapped, size=t.shape[2:], mode="bilinear", align_corners=False)
            pairs.insert(0, (mapped, t))
        return pairs


class Fusion(nn.Module):
    """One level of `CSF`."""

    def __init__(self, channels: int, out_channels: int, width: int, fuses: bool) -> None:
        super().__init__()
        hidden = max(width // 16, 32)
        self.enter = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.select: nn.Module | None = None
        if fuses:
            self.select = nn.Sequential(
                nn.Linear(width, hidden, bias=False), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 2 * width)
            )

    def shares(self, total: Tensor) -> Tensor:
        """Share of this level and of the coarser ones in each channel `(B, 2, C)`, from their sum `(B, C, h, w)`."""
        assert self.select is not None
        return self.select(total.mean((2, 3))).unflatten(1, (2, -1)).softmax(1)

    def forward(self, level: Tensor, coarser: Tensor | None) -> Tensor:
        level = self.enter(level)
        if coarser is None:
            return level
        coarser = F.interpolate(coarser, size=level.shape[2:], mode="nearest")
        mine, theirs = self.shares(level + coarser)[..., None, None].unbind(1)
        return mine * level + theirs * coarser
