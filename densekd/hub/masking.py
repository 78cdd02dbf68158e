"""Images of which most patches are hidden from a network, whichever it is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from densekd.hub.features import Features
from densekd.taps.families import patch_of

_ATTENTION = ("attn", "self_attn", "attention", "self_attention")
_MIXER = ("ffn", "mlp", "linear1", "intermediate")
_PLACED = ("rope", "rotary", "rel_pos", "relative_position")
"""Parts, by how their names begin, of attention that knows the place of each token by its number."""
_EXTRA = 8
"""Tokens beside the patches, a class token and registers, at most."""
PATCH = 32
"""Side of a hidden square in pixels where a network has no patches of one size."""


class Masking:
    """Which patches are hidden, and how a network is kept from them.

    The pixels of a hidden patch become the mean colour before the network sees them, whatever the network is. Where it
    is a plain vision transformer, whose patches do not overlap, their tokens do not enter its blocks either, so that it
    works on the visible ones alone; behind the blocks they are zeros. Blocks that need every token see them all: those
    with windows, relative positions or rotations (Swin, BEiT, DINOv3).

    Args:
        share: of the patches that are hidden; as many in each image.
        patch: side of a square in pixels. A multiple of the patches of each network that is to see the images.

    Raises:
        ValueError: `share` is not between 0 and 1, or `patch` below 1.

    >>> masks = Masking(0.75, 4).draw(2, (16, 16), torch.Generator().manual_seed(0))
    >>> masks.shape, masks.flatten(1).sum(1).tolist()
    (torch.Size([2, 4, 4]), [12, 12])
    """

    def __init__(self, share: float = 0.75, patch: int = PATCH) -> None:
        if not 0 < share < 1:
            raise ValueError(f"the share of hidden patches is between 0 and 1, got {share}")
        if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
            raise ValueError(f"patch is the side of a hidden square in pixels, at least 1, got {patch!r}")
        self.share, self.patch = share, patch

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image.

        Raises:
            ValueError: they do not divide it, or there are fewer than two.
        """
        height, width = size
        if height % self.patch or width % self.patch:
            raise ValueError(f"images of {height} x {width} are no multiples of the patches of {self.patch} pixels")
        rows, columns = height // self.patch, width // self.patch
        if rows * columns < 2:
            raise ValueError(
                f"images of {height} x {width} have a single patch of {self.patch} pixels: take larger ones"
            )
        return rows, columns

    def draw(self, images: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw the hidden patches, `(B, h, w)` bool."""
        rows, columns = self.grid(size)
        count = min(max(1, round(self.share * rows * columns)), rows * columns - 1)
        order = torch.rand(images, rows * columns, generator=generator).argsort(1)
        return (order < count).view(images, rows, columns)  # a permutation has each number once

    def hide(self, images: Tensor, masks: Tensor) -> Tensor:
        """Normalised images with zeros, the mean colour, on hidden patches."""
        return images.masked_fill(enlarged(masks, self.patch)[:, None], 0)

    @contextlib.contextmanager
    def only_visible(self, network: nn.Module, masks: Tensor) -> Iterator[None]:
        """Inside, no token of a hidden patch enters a block of a plain vision transformer; others run as they are.

        Raises:
            ValueError: its patches do not divide those that are hidden, or its tokens are no patches.
        """
        patch, found = _patch(network), transformer_blocks(network)
        if patch is None or not found or _needs_all(network):
            yield
            return
        if patch[0] != patch[1] or self.patch % patch[0]:
            raise ValueError(
                f"the patches of {type(network).__name__} are {patch[0]} x {patch[1]} pixels and do not divide those "
                f"that are hidden, {self.patch} pixels"
            )
        visible = ~enlarged(masks, self.patch // patch[0]).flatten(1)
        shown = visible.nonzero()[:, 1].view(len(visible), -1)
        hooks = []
        for name in found:
            block: Any = network.get_submodule(name)
            hooks += [
                block.register_forward_pre_hook(lambda _, given: _left(given, shown, visible.shape[1])),
                block.register_forward_hook(lambda _, given, out: _back(out, shown, visible.shape[1]), prepend=True),
            ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def transformer_blocks(network: nn.Module) -> list[str]:
    """Paths of the blocks of a transformer, first to last: what has attention and a feed-forward part.

    As OpenMMLab, transformers, timm, torchvision and `nn.TransformerEncoderLayer` call these; none for other networks.
    Blocks are of one class: an attention that pools all tokens at the end is none.

    >>> transformer_blocks(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 2, enable_nested_tensor=False))
    ['layers.0', 'layers.1']
    """
    found = [
        (name, part)
        for name, part in network.named_modules()
        if any(hasattr(part, each) for each in _ATTENTION) and any(hasattr(part, each) for each in _MIXER)
    ]
    return [name for name, part in found if type(part) is type(found[0][1])]


def enlarged(masks: Tensor, by: int) -> Tensor:
    """Each entry of masks `(B, h, w)` as a square of `by` x `by`."""
    return masks.repeat_interleave(by, 1).repeat_interleave(by, 2)


def as_grid(found: Tensor, masks: Tensor) -> Tensor:
    """Tokens `(B, N, C)`, or a map, as a map `(B, C, h, w)` on the grid of the masks; other tokens are left out.

    Several tokens of one patch are averaged.

    Raises:
        ValueError: the tokens are no grid of the aspect of the masks.
    """
    rows, columns = masks.shape[1:]
    if found.ndim == 3:
        count = found.shape[1]
        by = math.isqrt(count // (rows * columns))
        extra = count - by * by * rows * columns
        if not by or extra > _EXTRA:
            raise ValueError(f"{count} tokens are no grid over {rows} x {columns} patches")
        found = found[:, extra:].movedim(1, 2).unflatten(2, (by * rows, by * columns))
    if found.shape[2] < rows or found.shape[3] < columns:
        raise ValueError(
            f"a map of {found.shape[2]} x {found.shape[3]} is coarser than {rows} x {columns} patches: hide larger ones"
        )
    if tuple(found.shape[2:]) == (rows, columns):
        return found
    return nn.functional.adaptive_avg_pool2d(found, (rows, columns))


def patch_for(*networks: Features) -> int:
    """The smallest patch that all networks can be kept from: of plain transformers theirs, of others 32 pixels.

    >>> vit, cnn = (Features("", nn.Conv2d(3, 8, size, stride=stride)) for size, stride in ((16, 16), (3, 2)))
    >>> patch_for(vit), patch_for(vit, cnn)
    (16, 32)
    """
    sides = [_patch(each.network) for each in networks]
    return math.lcm(*(PATCH if side is None else math.lcm(*side) for side in sides))


def _patch(network: nn.Module) -> tuple[int, int] | None:
    """Its patches, if its blocks have one width: a transformer of stages, such as Swin, merges them."""
    widths = {next(network.get_submodule(name).parameters()).shape for name in transformer_blocks(network)}
    return None if len(widths) > 1 else patch_of(network)


def _needs_all(network: nn.Module) -> bool:
    named = (*network.named_modules(), *network.named_parameters(), *network.named_buffers())
    return any(name.rpartition(".")[2].startswith(_PLACED) for name, _ in named)


def _left(given: tuple[Any, ...], shown: Tensor, patches: int) -> tuple[Any, ...]:
    tokens = given[0]
    extra = tokens.shape[1] - patches
    if tokens.ndim != 3 or not 0 <= extra <= _EXTRA:
        raise ValueError(f"a block sees {tuple(tokens.shape)}; expected tokens (B, N, C) of {patches} patches")
    return (torch.cat([tokens[:, :extra], _of(tokens[:, extra:], shown)], 1), *given[1:])


def _back(out: Any, shown: Tensor, patches: int) -> Any:
    tokens = out[0] if isinstance(out, tuple) else out
    extra = tokens.shape[1] - shown.shape[1]
    place = shown[..., None].expand(-1, -1, tokens.shape[2])
    full = tokens.new_zeros(len(tokens), patches, tokens.shape[2]).scatter(1, place, tokens[:, extra:])
    full = torch.cat([tokens[:, :extra], full], 1)
    return (full, *out[1:]) if isinstance(out, tuple) else full


def _of(tokens: Tensor, shown: Tensor) -> Tensor:
    return tokens.gather(1, shown[..., None].expand(-1, -1, tokens.shape[2]))
