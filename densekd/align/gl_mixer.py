"""Mix the tokens of a student, globally and locally, before they are compared with the teacher's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GLMixer(nn.Module):
    r"""Global-local mixer: a learned sum of attention over all tokens and a gated convolution along the sequence.

    $$ E' = w_a \, \mathrm{SelfAttention}(E) + w_c \, (K_1 * E) \odot \sigma(K_2 * E) $$

    with kernels of three tokens in the order of the sequence and up to eight heads, as many as divide the channels.

    The authors leave $w_a$ and $w_c$ uninitialised; that they start at 1 is our own. Their code can add $E$ as well,
    which the paper does not.

    Args:
        tokens: what the student's tap yields, `(B, N, C)`.

    Raises:
        ValueError: the tensor is not `(B, N, C)`.

    Paper: Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation", IEEE T-ITS
    2024: on the patch embedding of the last stage. The mixer costs $N^2$, too much for the first stages.

    >>> GLMixer(torch.zeros(2, 16, 12))(torch.zeros(2, 16, 12)).shape
    torch.Size([2, 16, 12])
    """

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        if tokens.ndim != 3:
            raise ValueError(f"adapt='gl_mixer' mixes tokens (B, N, C), the student's tap yields {tuple(tokens.shape)}")
        channels = tokens.shape[2]
        self.attention = nn.MultiheadAttention(channels, math.gcd(8, channels), batch_first=True)
        self.value, self.gate = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.shares = nn.Parameter(torch.ones(2))

    def forward(self, tokens: Tensor) -> Tensor:
        everywhere, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        row = tokens.transpose(1, 2)
        nearby = (self.value(row) * self.gate(row).sigmoid()).transpose(1, 2)
        return self.shares[0] * everywhere + self.shares[1] * nearby
