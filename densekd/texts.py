"""Frozen embeddings of texts, in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlosses import nearest
from kdlosses.whole import whole


class TextTable:
    """Frozen embeddings of texts, from a safetensors file with a vector under each text.

    Args:
        path: the file.

    Attributes:
        channels: width of an embedding.

    Raises:
        FileNotFoundError, ValueError: no such file, or it does not hold vectors of one width.
        KeyError: on a text that is not in the file; the message names the nearest.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "texts.safetensors"
    >>> write(path, {"a car": torch.tensor([1.0, 0.0]), "a bus": torch.tensor([0.0, 1.0])})
    >>> TextTable(path)(["a bus", "a car", "a bus"]).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"there is no file of text embeddings at {self.path}: `densekd.texts.write` writes one, and "
                "`densekd regions` in its folder"
            )
        try:
            found = load_file(self.path)
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no safetensors file ({error}): write or fetch it again") from error
        shapes = sorted({tuple(vector.shape) for vector in found.values()})
        if len(shapes) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"{self.path} must hold a vector of one width for each text, it has the shapes {shapes}")
        bad = next((text for text, vector in found.items() if not vector.float().isfinite().all()), None)
        if bad is not None:
            raise ValueError(f"the embedding of {bad!r} in {self.path} is not finite")
        self.place = {text: i for i, text in enumerate(found)}
        self.vectors = torch.stack([vector.float() for vector in found.values()])
        self.channels = self.vectors.shape[1]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(n, channels)` of texts."""
        missing = [text for text in texts if text not in self.place]
        if missing:
            raise KeyError(
                f"{self.path} has no embedding of {missing[0]!r}, one of {len(set(missing))} texts that it lacks; "
                f"{nearest(missing[0], self.place)}"
            )
        return self.vectors[[self.place[text] for text in texts]]


def write(path: str | Path, embeddings: Mapping[str, Tensor]) -> None:
    """Write the file of a `TextTable` atomically.

    Raises:
        ValueError: there are no embeddings, they are not of one width, or one is not finite.
        OSError: the file could not be written; names it.
    """
    shapes = sorted({tuple(vector.shape) for vector in embeddings.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"expected a vector of one width for each text, got the shapes {shapes}")
    if bad := [text for text, vector in embeddings.items() if not vector.isfinite().all()]:
        raise ValueError(f"the embedding of {bad[0]!r} is not finite")
    with whole(path) as draft:
        # copies: safetensors refuses what shares memory, as two names of one thing may
        save_file({text: vector.detach().cpu().clone().contiguous() for text, vector in embeddings.items()}, draft)


def attribute_key(name: str) -> str:
    """Under which an attribute is among texts: a class may have the same name, such as `orange`.

    >>> attribute_key("orange")
    'attribute: orange'
    """
    return f"attribute: {name}"


def with_parents(names: Mapping[str, Sequence[str]] | Sequence[str]) -> dict[str, str]:
    """Names and their kinds, '' for those without: of a list of names, or of a dict of kinds with a list each.

    Raises:
        ValueError: a name comes twice, or a text stands where a list belongs.

    >>> with_parents({"color": ["red", "blue"], "size": ["small"]})
    {'red': 'color', 'blue': 'color', 'small': 'size'}
    >>> with_parents(["cat", "dog"])
    {'cat': '', 'dog': ''}
    """
    for some in (names, *(names.values() if isinstance(names, Mapping) else ())):
        if isinstance(some, str):
            raise ValueError(f"names must be a list, or a dict of lists, got the text {some!r}: put it in brackets")
    if isinstance(names, Mapping):
        pairs = [(name, kind) for kind, some in names.items() for name in some]
    else:
        pairs = [(name, "") for name in names]
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"names must be distinct, got {[name for name, _ in pairs]}")
    return found
