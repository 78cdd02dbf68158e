"""Images with label maps in two folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = (".jpg", ".jpeg", ".png")


class Scenes(Dataset):
    """Pairs of an image `(3, H, W)`, normalised as ImageNet's, and its label map `(H, W)`, held in memory.

    Args:
        images: folder of images.
        labels: folder of label maps, 8-bit PNG files of the same names.
        size: height and width to which both are resized, labels by nearest neighbour; as they are if not given.
        label_map: classes to exchange, such as `{11: 255}` for one that does not count.
        flip: mirror every other one at random, by torch's generator.

    Raises:
        FileNotFoundError: a folder is missing or empty, or an image has no label map.
        ValueError: a label map is of another size than its image, or not of 8 bits and one channel.

    Example: CamVid at a quarter of its size, 90 x 120, without its void.

        Scenes("CamVid/images/train", "CamVid/labels/train", size=(90, 120), label_map={11: 255}, flip=True)
    """

    def __init__(
        self,
        images: str | Path,
        labels: str | Path,
        size: tuple[int, int] | None = None,
        label_map: Mapping[int, int] | None = None,
        flip: bool = False,
    ) -> None:
        from PIL import Image

        folder = Path(images)
        files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"no images in {str(folder)!r}: it must hold {', '.join(SUFFIXES)} files")
        lookup = np.arange(256)
        for old, new in (label_map or {}).items():
            lookup[old] = new
        self.images, self.labels, self.flip = [], [], flip
        for file in files:
            of = Path(labels) / f"{file.stem}.png"
            if not of.is_file():
                raise FileNotFoundError(f"image {file} has no label map {of}")
            with Image.open(file) as image, Image.open(of) as label:
                if label.mode not in ("L", "P", "1") or label.size != image.size:
                    raise ValueError(
                        f"label map {of} must be an 8-bit image of one channel, as large as {file} {image.size}; it is "
                        f"of mode {label.mode!r} and size {label.size}"
                    )
                picture, classes = image.convert("RGB"), label
                if size is not None:
                    picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
                    classes = classes.resize(size[::-1], Image.Resampling.NEAREST)
                self.images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
                self.labels.append(torch.from_numpy(lookup[np.array(classes)]))
        self._mean, self._std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = (self.images[index] / 255 - self._mean) / self._std, self.labels[index]
        if self.flip and torch.rand(()) < 0.5:
            image, label = image.flip(-1), label.flip(-1)
        return image, label
