"""Convert a batch normalised for one model to the normalisation of another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Normalisation(NamedTuple):
    """What an image preprocessor of mmengine does to the pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    swapped: bool
    padding: float

    @classmethod
    def of(cls, preprocessor: nn.Module) -> Normalisation | None:
        """Read it off a preprocessor; None if that is no image preprocessor."""
        if not hasattr(preprocessor, "_enable_normalize"):
            return None
        mean, std = (0.0,), (1.0,)
        if preprocessor._enable_normalize:
            mean = tuple(preprocessor.mean.flatten().tolist())  # type: ignore[operator]
            std = tuple(preprocessor.std.flatten().tolist())  # type: ignore[operator]
        padding: Any = getattr(preprocessor, "pad_val", getattr(preprocessor, "pad_value", 0))
        return cls(mean, std, bool(preprocessor._channel_conversion), padding)


class Renormalise:
    """Convert a batch of the student's preprocessor to that of the teacher's for the same images.

    With mean m and deviation s of each, `x_t = (x_s * s_s + m_s - m_t) / s_t`, after a swap of the colour channels
    where the two disagree on their order. Padding is then set to the teacher's own padding value. If both are equal,
    the batch is returned unchanged.

    Args:
        student: the student's data preprocessor.
        teacher: the teacher's.

    Raises:
        TypeError: the two differ, and one is not an image preprocessor of mmengine.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        mine, its = Normalisation.of(student), Normalisation.of(teacher)
        self.needed = mine != its
        if not self.needed:
            return
        if mine is None or its is None:
            raise TypeError(
                f"cannot turn the input of {type(student).__name__} into that of {type(teacher).__name__}: "
                "only image preprocessors with mean, std and channel order are supported"
            )
        m_s, s_s, m_t, s_t = (
            torch.tensor(values).view(-1, 1, 1) for values in (mine.mean, mine.std, its.mean, its.std)
        )
        self.swap = mine.swapped != its.swapped
        if self.swap:
            m_s, s_s = m_s.flip(0), s_s.flip(0)
        self.scale, self.shift, self.padding = s_s / s_t, (m_s - m_t) / s_t, its.padding

    def __call__(self, inputs: Tensor, samples: Iterable[Any] | None) -> Tensor:
        if not self.needed:
            return inputs
        images = inputs.flip(-3) if self.swap else inputs
        images = images * self.scale.to(images) + self.shift.to(images)
        for image, sample in zip(images, samples or ()):
            height, width = sample.metainfo.get("img_shape", image.shape[-2:])[:2]
            image[..., height:, :] = self.padding
            image[..., width:] = self.padding
        return images
