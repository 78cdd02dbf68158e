"""A second patch embedding, added to the student's projected one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EmbeddingAssistant(nn.Module):
    r"""Embedding assistant: mix a student's patch embedding with a second one of its input, in the teacher's width.

    With $x_l$ the input of the student's patch embedding of stage l, from 1 on, the image or the stage before, and
    $p_l$ that embedding in the teacher's width,

    $$ p'_l = a_l \, p_l + b_l \, \mathrm{LN}(E_l * x_l), $$

    $E_l$ a convolution to the teacher's width with the stride s of the student's and overlapping patches of 2s - 1.
    $a_l$ and $b_l$ are learned and free; they start at $l / 10$ and $(l + 4) / 10$: 0.1 and 0.5 for the first of four
    stages, 0.4 and 0.8 for the last. With 1 and 0 it is the projected embedding alone.

    Paper: Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation", IEEE T-ITS
    2024; the form, its start and its convolutions are those of the authors' code.

    Args:
        tokens: output of the student's patch embedding, `(B, N, C)`.
        source: its input, `(B, c, H, W)`.
        width: channels of the teacher's.
        image_size: height and width of the image; l is read off how much smaller `source` is.

    Raises:
        ValueError: `tokens` are not tokens, or `source` is not a map.

    >>> assistant = EmbeddingAssistant(torch.zeros(2, 64, 8), torch.zeros(2, 3, 32, 32), 16, (32, 32))
    >>> assistant.embed.kernel_size, assistant.embed.stride
    ((7, 7), (4, 4))
    >>> assistant(torch.zeros(2, 16, 64), torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 16, 64])
    >>> round(assistant.own.item(), 1), round(assistant.share.item(), 1)
    (0.1, 0.5)
    """

    def __init__(self, tokens: Tensor, source: Tensor, width: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        if tokens.ndim != 3 or source.ndim != 4:
            raise ValueError(
                "adapt='ea' needs a patch embedding and its input, tokens (B, N, C) and a map (B, c, H, W): "
                f"student='path:0+path:in'; the tap yields {tuple(tokens.shape)} and {tuple(source.shape)}"
            )
        stride = round(math.sqrt(source[0, 0].numel() / tokens.shape[1]))
        self.embed = nn.Conv2d(source.shape[1], width, 2 * stride - 1, stride, padding=stride - 1)
        self.norm = nn.LayerNorm(width)
        stage = max(1, round(math.log2(image_size[0] / source.shape[2])))  # sizes are rounded up where odd
        self.own, self.share = (nn.Parameter(torch.tensor((stage + more) / 10)) for more in (0, 4))

    def forward(self, projected: Tensor, source: Tensor) -> Tensor:
        """Mix with `projected`, `(B, C, N)` or, if the teacher's grid differs, `(B, C, h, w)`."""
        extra = self.norm(self.embed(source).movedim(1, -1)).movedim(-1, 1)
        if projected.ndim == 3:
            extra = extra.flatten(2)
        else:
            extra = F.interpolate(extra, projected.shape[2:], mode="bilinear", align_corners=False)
        return self.own * projected + self.share * extra
