"""Learned tokens and their masks, as in MasKD."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlosses.whole import whole


class ReceptiveTokens(nn.Module):
    r"""T tokens $e_t$, each with a soft mask $M_{ti} = \sigma(e_t \cdot f_i)$ and a share of each image.

    The shares are $p = \mathrm{softmax}(A \, \mathrm{mean}_i (K * f)_i)$ with a 3x3 convolution K and a linear A.

    Args:
        channels: C.
        tokens: T.
        weigh: learn the shares; otherwise each is 1 / T.

    Paper: Huang et al., "Masked Distillation with Receptive Tokens", ICLR 2023.

    >>> tokens = ReceptiveTokens(channels=3, tokens=2)
    >>> tokens.masks(torch.zeros(1, 3, 1, 2)).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """

    def __init__(self, channels: int, tokens: int = 6, weigh: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.01 * torch.randn(tokens, channels))
        self.around = nn.Conv2d(channels, channels, 3, padding=1) if weigh else None
        self.score = nn.Linear(channels, tokens) if weigh else None

    def check_channels(self, channels: int) -> None:
        """Raise `ValueError` if they are for maps of other channels."""
        if channels != self.tokens.shape[1]:
            raise ValueError(f"tokens of {self.tokens.shape[1]} channels cannot attend to a map of {channels}")

    def masks(self, features: Tensor) -> Tensor:
        """Masks `(N, T, h w)` of features `(N, C, h, w)`."""
        self.check_channels(features.shape[1])
        return torch.sigmoid(self.tokens @ features.flatten(2))

    def shares(self, features: Tensor, weight: Tensor | None = None) -> Tensor:
        """Shares `(N, T)` of the tokens; positions `(N, h, w)` of weight 0 are zero vectors and do not count."""
        if self.around is None or self.score is None:
            return features.new_full((len(features), len(self.tokens)), 1 / len(self.tokens))
        if weight is None:
            total: Tensor | float = features[0, 0].numel()
        else:
            features = features * (weight > 0).unsqueeze(1)
            total = (weight > 0).flatten(1).sum(1, keepdim=True).clamp_min(1)
        # the mean of a convolution needs the sums of its nine windows alone
        windows = _but_the_ends(_but_the_ends(features.transpose(2, 3)).transpose(2, 3))
        kernel, bias = self.around.weight, self.around.bias
        assert bias is not None
        return self.score(windows.flatten(1) @ kernel.flatten(1).T / total + bias).softmax(1)

    def attend(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features under the masks of all tokens, weighted by learned shares, and the masks."""
        masks, shares = self.masks(features), self.shares(features)
        if self.score is None:
            shares = torch.ones_like(shares)
        through = (shares.unsqueeze(1) @ masks).view(len(features), 1, *features.shape[2:])
        return through * features, masks

    def save(self, path: str | Path) -> None:
        """Write them as safetensors."""
        write_learned(path, self.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> ReceptiveTokens:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file holds something else.
        """
        weights = read_learned(path, "tokens", "densekd tokens")
        if "tokens" not in weights or weights["tokens"].ndim != 2:
            raise ValueError(f"{path} holds no receptive tokens; its keys are {', '.join(weights) or 'none'}")
        count, width = weights["tokens"].shape
        loaded = cls(width, count, weigh="score.weight" in weights)
        loaded.load_state_dict(weights)
        return loaded


def write_learned(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what `densekd tokens` has learned as safetensors."""
    from safetensors.torch import save_file

    with whole(path) as draft:
        save_file({key: value.detach().contiguous() for key, value in tensors.items()}, draft)


def read_learned(path: str | Path, what: str, command: str) -> dict[str, Tensor]:
    """Read a file of `write_learned`; `what` it holds and the `command` that writes it are for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file of {what} {path}: write it with `{command}`")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): write it again with `{command}`") from error


def _but_the_ends(x: Tensor) -> Tensor:
    """Sums over axis 3 of all but the last, of all, and of all but the first: `(N, C, L, W)` to `(N, C, L, 3)`."""
    total = x.sum(3)
    return torch.stack([total - x[..., -1], total, total - x[..., 0]], dim=3)


def overlap(masks: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""How much masks overlap: $\sum_{s \ne t} 2 M_s \cdot M_t / (\|M_s\|^2 + \|M_t\|^2)$, 0 for disjoint ones.

    Args:
        masks: `(N, T, positions)`, not negative.
        weight: `(N, positions)`.

    Returns:
        `(N,)`, from 0 to T (T - 1), which equal masks have.

    >>> overlap(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [1.0, 0.5]]])).tolist()
    [0.0, 2.0]
    """
    counted = masks if weight is None else masks * weight.to(masks.dtype).unsqueeze(1)
    product = counted @ masks.mT
    norm = product.diagonal(dim1=1, dim2=2)
    both = (norm.unsqueeze(1) + norm.unsqueeze(2)).clamp_min(torch.finfo(norm.dtype).tiny)
    dice = 2 * product / both
    return dice.sum((1, 2)) - dice.diagonal(dim1=1, dim2=2).sum(1)
