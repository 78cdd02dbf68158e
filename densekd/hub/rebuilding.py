"""A light decoder that rebuilds hidden patches from what a network yields for the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from densekd.hub.masking import as_grid
from kdlosses.reduce import weighted_mean


class Decoder(nn.Module):
    """Hidden patches from visible ones: a linear map, a learned token on hidden patches, places, transformer blocks.

    It is as light as it can be, so that the network before it does the work; it is thrown away afterwards.

    Args:
        channels: of the network's last map.
        patch: side of a patch in pixels.
        width: of its tokens, a multiple of 4 and of 16 a head.
        depth: number of blocks.

    `forward`: a map `(B, C, h, w)` and masks `(B, h', w')` to hidden states `(B, N, width)` and pixels `(B, N, 3 p p)`.

    Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, whose decoder is 512 wide and eight
    blocks deep.

    >>> masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    >>> [tuple(each.shape) for each in Decoder(8, 16, width=32)(torch.randn(2, 8, 4, 4), masks)]
    [(2, 16, 32), (2, 16, 768)]
    """

    def __init__(self, channels: int, patch: int, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        if width < 16 or width % 16 or depth < 1:
            raise ValueError(
                f"a decoder has a width that is a multiple of 16 and a block at least, got {width}, {depth}"
            )
        self.embed = nn.Linear(channels, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 16, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3 * patch * patch)

    def forward(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.embed(as_grid(maps, masks).flatten(2).movedim(1, 2))
        tokens = torch.where(masks.flatten(1)[..., None], self.hidden.to(tokens.dtype), tokens)
        tokens = tokens + places(masks.shape[1], masks.shape[2], tokens.shape[2]).to(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens, self.head(tokens)


def places(rows: int, columns: int, width: int) -> Tensor:
    r"""Sines and cosines of row and column of each patch, $\sin(r \omega_k), \cos(r \omega_k)$: `(N, width)`.

    >>> places(2, 3, 8).shape
    torch.Size([6, 8])
    """
    rate = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [each.flatten()[:, None] * rate for each in (row, column)]
    return torch.cat([part for each in angles for part in (each.sin(), each.cos())], 1)


def patches(images: Tensor, side: int) -> Tensor:
    """Pixels of each patch, row by row: `(B, 3, H, W)` to `(B, N, 3 side side)`.

    >>> patches(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 1].tolist()
    [2.0, 3.0, 6.0, 7.0]
    """
    return nn.functional.unfold(images, side, stride=side).movedim(1, 2)


def rebuilt(found: Tensor, images: Tensor, masks: Tensor, side: int) -> Tensor:
    r"""Squared error of the pixels of hidden patches, each patch standardised by its own mean and deviation.

    $$ L = \frac{1}{|M|} \sum_{i \in M} \frac{1}{3 p^2} \Big\| \hat x_i - \frac{x_i - \mu_i}{\sigma_i} \Big\|^2 $$

    Args:
        found: `(B, N, 3 side side)`.
        images: normalised, `(B, 3, H, W)`.
        masks: M, `(B, h, w)`.
        side: p, of a patch in pixels.

    Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022. Factor 1.
    """
    truth = patches(images, side)
    deviation, mean = torch.var_mean(truth, dim=2, keepdim=True)
    truth = (truth - mean) / (deviation + 1e-6).sqrt()
    return weighted_mean((found - truth).square().mean(2), masks.flatten(1).to(found.dtype))
