"""Images of a folder, without labels: found, checked, and cropped at random in an order that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
Size = tuple[int, int]


def find_images(folder: str | Path) -> list[Path]:
    """Return the images in a folder and in those below it, sorted by path.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder of images {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"no image in {folder} or below it; known are {', '.join(SUFFIXES)}")
    return found


def read_image(path: Path) -> Image.Image:
    """Read an image, upright by its EXIF, as red, green and blue.

    Raises:
        OSError: it cannot be read; the message names it.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise OSError(f"its pixels are of mode {image.mode}, not of 8 bits")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as PIL words what is broken
        raise OSError(f"image {path} cannot be read: {error}") from error


def broken_images(paths: Sequence[Path], threads: int = 1) -> dict[Path, str]:
    """Read all images once, and return those that cannot be read, with the reason."""

    def why(path: Path) -> str | None:
        try:
            read_image(path)
        except OSError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return {path: said for path, said in zip(paths, pool.map(why, paths)) if said is not None}


class Crops(Dataset[Tensor]):
    """Random crops of images, resized to one size and flipped by chance: `(3, H, W)` uint8, red first.

    The draw of a crop depends on the seed and on its place in the order of the training alone, so that it is the same
    after a pause, and in any number of workers.

    Args:
        paths: of the images.
        size: height and width of a crop.
        seed: of the draws.
        least: share of the image's area that a crop covers at least; its aspect is that of `size`, from 3/4 to 4/3 of
            it. None for the largest crop in the centre, as for validation.
    """

    def __init__(self, paths: Sequence[Path], size: Size, seed: int = 0, least: float | None = 0.25) -> None:
        self.paths, self.size, self.seed, self.least = list(paths), size, seed, least

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int] | int) -> Tensor:
        index, place = (key, 0) if isinstance(key, int) else key
        image = read_image(self.paths[index])
        random = np.random.default_rng((self.seed, place))
        height, width = self.size
        box = _box(image.size, width / height, random, self.least)
        pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
        if self.least is not None and random.random() < 0.5:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class Order:
    """Batches of `(index, place)` for a `DataLoader`: each epoch all images in a new order, from any step on.

    >>> list(Order(count=3, batch=2, steps=3, seed=0)) == [*Order(3, 2, 1, 0), *Order(3, 2, 3, 0, start=1)]
    True
    >>> sorted(index for some in Order(3, 3, 2, 0) for index, _ in some)
    [0, 0, 1, 1, 2, 2]
    """

    def __init__(self, count: int, batch: int, steps: int, seed: int, start: int = 0) -> None:
        self.count, self.batch, self.steps, self.seed, self.start = count, batch, steps, seed, start

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, [0]
        for step in range(self.start, self.steps):
            some = []
            for place in range(step * self.batch, (step + 1) * self.batch):
                if place // self.count != epoch:
                    epoch = place // self.count
                    order = np.random.default_rng((self.seed, epoch, self.count)).permutation(self.count).tolist()
                some.append((order[place % self.count], place))
            yield some


def batches(crops: Crops, batch: int, steps: int, start: int = 0, workers: int = 0) -> DataLoader[Tensor]:
    """Return the training batches `(B, 3, H, W)` uint8 from a step on."""
    order = Order(len(crops), batch, steps, crops.seed, start)
    own = torch.Generator().manual_seed(0)  # a loader would draw from the generator that the networks use
    return DataLoader(crops, batch_sampler=order, num_workers=workers, generator=own)


def held_out(paths: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Split images into those to learn from and those to validate on, spread evenly over their order.

    Raises:
        ValueError: the share is not in (0, 1), or leaves nothing to learn from.

    >>> [[each.name for each in some] for some in held_out([Path(name) for name in "abcdef"], 1 / 3)]
    [['a', 'c', 'd', 'f'], ['b', 'e']]
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of images that are held out must be in (0, 1), got {share!r}")
    count = max(1, round(share * len(paths)))
    if count >= len(paths):
        raise ValueError(f"{len(paths)} images are too few to hold some out and learn from the others")
    chosen = {int((n + 0.5) * len(paths) / count) for n in range(count)}
    learn = [path for n, path in enumerate(paths) if n not in chosen]
    return learn, [path for n, path in enumerate(paths) if n in chosen]


def _box(
    size: tuple[int, int], aspect: float, random: np.random.Generator, least: float | None
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a crop of an image of `size` (width, height)."""
    width, height = size
    area, at = 1.0, (0.5, 0.5)
    if least is not None:
        area, stretch, *place = random.uniform([least, np.log(3 / 4), 0, 0], [1, np.log(4 / 3), 1, 1])
        aspect, at = aspect * float(np.exp(stretch)), (float(place[0]), float(place[1]))
    w = min(width, np.sqrt(area * width * height * aspect), height * aspect)
    h = min(height, w / aspect)
    left, top = at[0] * (width - w), at[1] * (height - h)
    return float(left), float(top), float(min(left + w, width)), float(min(top + h, height))
