"""Haar wavelets of maps, and learned prompts that say where in their bands a teacher looks, as in FreeKD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.losses.receptive_tokens import overlap, read_learned, write_learned

Size = Sequence[int]


def haar(features: Tensor, levels: int) -> tuple[Tensor, list[Tensor]]:
    r"""Haar transform of maps: what is left of low frequency, and a band of three orientations for each level.

    A block of pixels $\begin{smallmatrix} a & b \\ c & d \end{smallmatrix}$ becomes the low pass $(a + b + c + d) / 2$,
    of which the next level is made, and $(a + b - c - d) / 2$, $(a - b + c - d) / 2$, $(a - b - c + d) / 2$. The
    transform is orthogonal. Sides that are odd are padded by zeros, at the bottom and at the right.

    Args:
        features: `(N, C, h, w)`.
        levels: J.

    Returns:
        the low pass `(N, C, h', w')` and, finest first, J bands `(N, C, 3, h_j, w_j)`.

    >>> low, (band,) = haar(torch.tensor([[[[4.0, 2.0], [2.0, 0.0]]]]), 1)
    >>> low.flatten().tolist(), band.flatten().tolist()
    ([4.0], [2.0, 2.0, 0.0])
    """
    bands = []
    for _ in range(levels):
        h, w = features.shape[2:]
        features = F.pad(features, (0, w % 2, 0, h % 2))
        top, bottom = features[:, :, ::2], features[:, :, 1::2]
        a, b, c, d = top[..., ::2], top[..., 1::2], bottom[..., ::2], bottom[..., 1::2]
        bands.append(torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=2) / 2)
        features = (a + b + c + d) / 2
    return features, bands


def inverse_haar(low: Tensor, bands: Sequence[Tensor], size: Size) -> Tensor:
    """Return the map of `size` (height, width) whose transform that is.

    >>> x = torch.randn(2, 3, 5, 7)
    >>> torch.allclose(inverse_haar(*haar(x, 2), size=(5, 7)), x, atol=1e-6)
    True
    """
    for band in reversed(bands):
        low = low[:, :, : band.shape[3], : band.shape[4]]
        y, x, both = band.unbind(2)
        rows = [torch.stack([low + y + x + both, low + y - x - both], 4).flatten(3)]
        rows.append(torch.stack([low - y + x - both, low - y - x + both], 4).flatten(3))
        low = torch.stack(rows, 3).flatten(2, 3) / 2
    return low[:, :, : size[0], : size[1]]


class FrequencyPrompts(nn.Module):
    r"""T tokens for each band of a Haar transform, each with a soft mask $M_{ti} = \sigma(e_t \cdot g_i)$.

    g is the band summed over its three orientations, or the low pass.

    Args:
        channels: C.
        tokens: T.
        levels: J; there are J bands and the low pass.

    Paper: Zhang et al., "FreeKD: Knowledge Distillation via Semantic Frequency Prompt", CVPR 2024.

    >>> prompts = FrequencyPrompts(channels=3, tokens=2, levels=1)
    >>> low, (mask,) = prompts.masks(*haar(torch.zeros(1, 3, 2, 4), 1))
    >>> mask.shape, mask.unique().tolist()
    (torch.Size([1, 2, 1, 2]), [0.5])
    """

    def __init__(self, channels: int, tokens: int = 6, levels: int = 3) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.01 * torch.randn(1 + levels, tokens, channels))

    @property
    def levels(self) -> int:
        return len(self.tokens) - 1

    def check_channels(self, channels: int) -> None:
        """Raise `ValueError` if they are for maps of other channels."""
        if channels != self.tokens.shape[2]:
            raise ValueError(f"prompts of {self.tokens.shape[2]} channels cannot attend to a map of {channels}")

    def masks(self, low: Tensor, bands: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Masks `(N, T, h, w)` of the low pass and of each band."""
        self.check_channels(low.shape[1])
        first, *found = (
            torch.sigmoid(torch.einsum("tc,nchw->nthw", own, each))
            for own, each in zip(self.tokens, [low, *(band.sum(2) for band in bands)])
        )
        return first, found

    def attend(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features with each band under the sum of its masks, and how much masks overlap.

        The overlap `(N,)` is the mean dice coefficient of pairs, summed over the bands and the low pass.
        """
        low, bands = haar(features, self.levels)
        first, masks = self.masks(low, bands)
        through = [band * mask.sum(1)[:, None, None] for band, mask in zip(bands, masks)]
        whole_again = inverse_haar(low * first.sum(1, keepdim=True), through, features.shape[2:])
        count = self.tokens.shape[1]
        pairs = max(1, count * (count - 1))
        return whole_again, torch.stack([overlap(mask.flatten(2)) for mask in (first, *masks)]).sum(0) / pairs

    def save(self, path: str | Path) -> None:
        """Write them as safetensors."""
        write_learned(path, {"frequency_prompts": self.tokens})

    @classmethod
    def load(cls, path: str | Path) -> FrequencyPrompts:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file holds something else.
        """
        weights = read_learned(path, "prompts", "densekd tokens --frequency")
        tokens = weights.get("frequency_prompts")
        if tokens is None or tokens.ndim != 3 or len(tokens) < 2:
            raise ValueError(f"{path} holds no frequency prompts; its keys are {', '.join(weights) or 'none'}")
        loaded = cls(tokens.shape[2], tokens.shape[1], len(tokens) - 1)
        loaded.tokens.data.copy_(tokens)
        return loaded
