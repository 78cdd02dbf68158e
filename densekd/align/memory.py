"""The tokens of an encoder as maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Memory(nn.Module):
    """Read the tokens of an encoder of several levels as the maps that they were made of; maps stay as they are.

    It stands between the taps and the loss, as `through` of an entry whose taps are `'encoder+neck'`.

    `forward`:
        student: tokens `(B, N, C)` and then the maps `(B, *, h, w)` whose positions they are, level by level, with N
            the sum of all h w; or maps alone.
        teacher: the same of the teacher.

    Returns:
        The maps `(B, C, h, w)` of each level of both sides, and None, for weights of positions.

    Raises:
        ValueError: the tokens are not as many as the positions.

    >>> import torch
    >>> tokens, maps = torch.zeros(2, 20, 8), [torch.zeros(2, 6, 4, 4), torch.zeros(2, 6, 2, 2)]
    >>> mine, _, _ = Memory()([tokens, *maps], [tokens, *maps])
    >>> [tuple(each.shape) for each in mine]
    [(2, 8, 4, 4), (2, 8, 2, 2)]
    """

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        return _maps(student), _maps(teacher), None


def _maps(levels: Sequence[Tensor]) -> list[Tensor]:
    tokens, *maps = levels
    if tokens.ndim == 4:
        return list(levels)
    sizes = [tuple(each.shape[2:]) for each in maps]
    counts = [height * width for height, width in sizes]
    if sum(counts) != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens are not the positions of maps of {sizes}: tap 'encoder+neck'")
    parts = tokens.split(counts, 1)
    return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes)]
