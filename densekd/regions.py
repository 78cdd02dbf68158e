"""Embeddings of regions of images, on disk: what an image-text model says of boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from densekd.texts import write
from kdlosses import nearest
from kdlosses.whole import whole

FORMAT = "densekd regions 1"
SHARD = 256  # images of a file
TEXTS = "texts.safetensors"


class Regions(NamedTuple):
    """Boxes of an image `(n, 4)`, in its pixels, their embeddings `(n, E)`, and how much each counts `(n,)`."""

    boxes: Tensor
    embeddings: Tensor
    weights: Tensor


class RegionStore:
    """Regions of the images of a data set, by the `img_id` of its samples, from a folder that `write_regions` wrote.

    Args:
        folder: the folder.

    Attributes:
        channels: width of an embedding.
        facts: how the folder was made.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or its files are damaged or of something else.
        KeyError: on an image without regions.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "regions"
    >>> one = Regions(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[1.0, 0]]), torch.ones(1))
    >>> write_regions(folder, {"cat": torch.tensor([1.0, 0])}, [(7, (8, 8), one)])
    >>> RegionStore(folder)(7, (8, 8)).boxes.tolist()
    [[0.0, 0.0, 4.0, 4.0]]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("regions-*.safetensors"))
        if not paths:
            raise FileNotFoundError(f"there are no regions in {self.folder}: `densekd regions` writes them")
        self._file_of: dict[str, Path] = {}
        widths = set()
        for path in paths:
            try:
                with safe_open(path, "pt") as file:
                    about, keys = file.metadata() or {}, list(file.keys())
                if about.get("format") != FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}, this version reads {FORMAT!r}")
                self.facts: dict[str, Any] = json.loads(about["facts"])
                widths.add(int(about["channels"]))
            except (SafetensorError, ValueError, KeyError) as error:
                raise ValueError(f"{path} holds no regions ({error}): write the folder again") from error
            self._file_of.update((key.removesuffix(".boxes"), path) for key in keys if key.endswith(".boxes"))
        if len(widths) > 1:
            raise ValueError(
                f"the files in {self.folder} are of several encoders, {sorted(widths)} wide: write it again"
            )
        self.channels = widths.pop()

    def __len__(self) -> int:
        return len(self._file_of)

    def __call__(self, image: Any, size: Sequence[int]) -> Regions:
        """Return the regions of an image, in its own pixels.

        Args:
            image: its `img_id`.
            size: height and width, as a check that the image is the same.

        Raises:
            KeyError: there are none of it.
            ValueError: they are of an image of another size.
        """
        key = str(image)
        if key not in self._file_of:
            raise KeyError(f"{self.folder} has no regions of image {key!r}; {nearest(key, self._file_of)}")
        with safe_open(self._file_of[key], "pt") as file:  # none is held open: a model is copied, its store with it
            known = tuple(file.get_tensor(f"{key}.size").tolist())
            found = Regions(*(file.get_tensor(f"{key}.{name}").float() for name in Regions._fields))
        if known != tuple(size[:2]):
            raise ValueError(
                f"the regions of image {key!r} in {self.folder} are of {known[0]} x {known[1]} pixels, the image has "
                f"{size[0]} x {size[1]}: they are of another data set, write them for this one"
            )
        return found


def write_regions(
    folder: str | Path,
    texts: Mapping[str, Tensor],
    images: Iterable[tuple[Any, Sequence[int], Regions]],
    facts: Mapping[str, Any] | None = None,
    also: Callable[[Path], None] | None = None,
) -> None:
    """Write the folder of a `RegionStore`, with the `TextTable` of the names in it; whole, or not at all.

    Embeddings are stored in half precision.

    Args:
        folder: must not exist.
        texts: an embedding for each name.
        images: `img_id`, height and width, and regions of each.
        facts: how they were made, JSON values.
        also: writes further files into the folder, of which it gets the path.

    Raises:
        FileExistsError: the folder exists.
        ValueError: an image comes twice, there is none, or no text, a value is not finite or too large for half
            precision, or shapes do not fit.
        OSError: the folder could not be written.
    """
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists: take another name, or delete it")
    if not texts:
        raise ValueError("there is no text to write: give the embeddings of the names")
    channels = next(iter(texts.values())).shape[0]
    about = {"format": FORMAT, "channels": str(channels), "facts": json.dumps(dict(facts or {}))}
    with whole(folder, folder=True) as draft:
        write(draft / TEXTS, texts)
        number, seen = 0, set[str]()
        for number, shard in enumerate(_shards(images), 1):
            for key, _, regions in shard:
                if key in seen:
                    raise ValueError(f"two images have the img_id {key!r}: regions are found by it")
                seen.add(key)
                _check(key, regions, channels)
            tensors = {f"{key}.size": torch.tensor(list(size[:2])) for key, size, _ in shard}
            for key, _, (boxes, embeddings, weights) in shard:  # copies: safetensors refuses what shares memory
                tensors[f"{key}.boxes"] = boxes.float().cpu().clone().contiguous()
                tensors[f"{key}.embeddings"] = embeddings.half().cpu().clone().contiguous()
                tensors[f"{key}.weights"] = weights.float().cpu().clone().contiguous()
            save_file(tensors, draft / f"regions-{number - 1:05}.safetensors", metadata=about)
        if not number:
            raise ValueError("there is no image to write regions of")
        if also is not None:
            also(draft)


def _shards(images: Iterable[tuple[Any, Sequence[int], Regions]]) -> Iterator[list[tuple[str, Sequence[int], Regions]]]:
    shard: list[tuple[str, Sequence[int], Regions]] = []
    for image, size, regions in images:
        shard.append((str(image), size, regions))
        if len(shard) == SHARD:
            yield shard
            shard = []
    if shard:
        yield shard


def _check(key: str, regions: Regions, channels: int) -> None:
    count = len(regions.boxes)
    shapes = [tuple(each.shape) for each in regions]
    if shapes != [(count, 4), (count, channels), (count,)]:
        raise ValueError(
            f"image {key!r}: boxes (n, 4), embeddings (n, {channels}) and weights (n,) do not fit: {shapes}"
        )
    if not all(each.isfinite().all() for each in regions) or (regions.weights < 0).any():
        raise ValueError(f"image {key!r}: a box, an embedding or a weight is not finite, or a weight is negative")
    if not regions.embeddings.half().isfinite().all():
        raise ValueError(f"image {key!r}: an embedding is too large for half precision: scale it to length 1")
