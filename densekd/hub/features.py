"""Networks that turn images into maps: teachers that others trained, and the students of pre-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and standard deviation of red, green and blue in ImageNet, of 0 to 255."""


class Pixels(nn.Module):
    """Normalise images, with the attributes by which this package reads the preprocessors of mmengine.

    Args:
        mean: of red, green and blue, of 0 to 255.
        std: standard deviation of the pixels, in the units of the mean.
        rgb: whether the network gets red first; else blue first.

    >>> Pixels((127, 127, 127), (128, 128, 128))(torch.full((1, 3, 2, 2), 255.0)).unique()
    tensor([1.])
    """

    _enable_normalize = True
    pad_value = 0
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], rgb: bool = True) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std are of red, green and blue, std above 0; got {mean!r} and {std!r}")
        self._channel_conversion = rgb
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images `(B, 3, H, W)` of 0 to 255, red first; `mean` and `std` have the network's order."""
        images = images if self._channel_conversion else images.flip(1)
        return (images - self.mean) / self.std


class Features(nn.Module):
    """A network that yields maps `(B, C, h, w)`, and all that its images need before it.

    As a teacher of `densekd.Distiller` its tap is `maps`, a list of all its maps, or `maps:i`, one of them.

    Args:
        name: its name in messages.
        network: called on normalised images `(B, 3, H, W)`; yields a map, or several from fine to coarse.
        mean, std, rgb: see `Pixels`; ImageNet's if not given.
        multiple: images are resized bilinearly to the nearest multiple of it, each side for itself, at least once.
        square: side of the only images that the network takes: others are resized, the longer side to it, and padded
            with zeros at the right and the bottom; the maps are cut back.
        read: how the maps are read out of what the network yields, from that and the size of its image.
        note: where the normalisation is from, for the log.

    Shapes: normalised images to a list of maps, from fine to coarse.

    Raises:
        TypeError: the network yields no maps.

    >>> features = Features("tiny", nn.Conv2d(3, 8, 14, stride=14), multiple=14)
    >>> [tuple(each.shape) for each in features(torch.zeros(2, 3, 64, 99))]
    [(2, 8, 5, 7)]
    """

    default_taps: ClassVar[dict[str, str]] = {"features": "maps"}

    def __init__(
        self,
        name: str,
        network: nn.Module,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
        rgb: bool = True,
        multiple: int = 1,
        square: int | None = None,
        read: Callable[[Any, tuple[int, int]], Sequence[Tensor]] | None = None,
        note: str = "",
    ) -> None:
        super().__init__()
        self.name, self.multiple, self.square, self.note = name, multiple, square, note
        self.network = network
        self.data_preprocessor = Pixels(mean, std, rgb)
        self.maps = nn.Identity()
        self._read = read or as_levels

    def forward(self, images: Tensor, data_samples: Any = None, mode: str = "tensor") -> list[Tensor]:
        """Return the maps of normalised images `(B, 3, H, W)`."""
        images, (height, width) = self._sized(images)
        maps: list[Any] = list(self._read(self.network(images), (images.shape[2], images.shape[3])))
        for each in maps or [None]:
            if not isinstance(each, Tensor) or each.ndim != 4:
                what = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
                raise TypeError(f"{self.name}: a backbone yields maps (B, C, h, w), one or several, got {what}")
        if self.square:
            maps = [_cut(each, height / self.square, width / self.square) for each in maps]
        found: list[Tensor] = self.maps(maps)
        return found

    def of_pixels(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images `(B, 3, H, W)` of 0 to 255, red first."""
        return self(self.data_preprocessor(images))

    def shown(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which an image of `size` is resized for the network."""
        height, width = size
        if self.square:
            scale = self.square / max(height, width)
            return max(1, round(scale * height)), max(1, round(scale * width))
        return nearest_multiple(height, self.multiple), nearest_multiple(width, self.multiple)

    def _sized(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The images as the network takes them, and the part of them that is not padding."""
        size = self.shown((images.shape[2], images.shape[3]))
        if size != tuple(images.shape[2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        if self.square:
            images = F.pad(images, (0, self.square - size[1], 0, self.square - size[0]))
        return images, size

    def told(self) -> str:
        """Say what the network is, and what happens to its images."""
        weights = sum(weight.numel() for weight in self.network.parameters())
        pixels = self.data_preprocessor
        mean, std = (", ".join(f"{value:g}" for value in each.flatten().tolist()) for each in (pixels.mean, pixels.std))
        first = "red" if pixels._channel_conversion else "blue"
        said = f"{self.name} ({weights:,} parameters); images: {first} first, minus ({mean}), by ({std})"
        said += f", sides to multiples of {self.multiple}" if self.multiple > 1 else ""
        said += f", padded to {self.square} x {self.square}" if self.square else ""
        return f"{said}; {self.note}" if self.note else said


def as_levels(found: Any, size: tuple[int, int]) -> list[Tensor]:
    """Return what a network yielded as a list: a map, or several in a list, a tuple or a dict."""
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else [found]
    return list(values)


def nearest_multiple(size: int, multiple: int) -> int:
    """Return the multiple that is nearest to a size, at least one times it.

    >>> [nearest_multiple(size, 14) for size in (5, 224, 230, 231)]
    [14, 224, 224, 238]
    """
    return max(1, (2 * size + multiple) // (2 * multiple)) * multiple


def _cut(maps: Tensor, height: float, width: float) -> Tensor:
    """The upper left part of a map; a share of its height and of its width."""
    return maps[..., : max(1, round(maps.shape[2] * height)), : max(1, round(maps.shape[3] * width))]
