"""Splits of nodes: training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

PARTS = ("train", "val", "test")
_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_FORMS = "a Split, three masks (N,), three lists of node ids, or a dict of these with train, val (or valid) and test"


@dataclass(frozen=True, eq=False)
class Split:
    """Node ids for training, validation and test. Nodes may be in none of the three.

    Raises:
        ValueError: a part is empty or holds no node ids, or two parts share a node.
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        for key in PARTS:
            part = getattr(self, key)
            if not isinstance(part, Tensor) or part.ndim != 1 or part.is_floating_point() or part.dtype is torch.bool:
                what = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"the split's {key} part holds node ids, a tensor (n,) of integers; got {what}"
                    + ("; of a mask take mask.nonzero().flatten()" if "bool" in what else "")
                )
            if not len(part):
                raise ValueError(f"the split has no {key} nodes")
            object.__setattr__(self, key, part.long())  # ids of uint8 would be read as a mask
        found, count = torch.cat([self.train, self.val, self.test]).unique(return_counts=True)
        if len(twice := found[count > 1]):
            node = int(twice[0])
            where = [key for key in PARTS for _ in range(int((getattr(self, key) == node).sum()))]
            raise ValueError(
                f"the parts of the split overlap: node {node} in {' and '.join(where[:2])} ({len(twice)} such nodes)"
            )

    def fingerprint(self) -> str:
        """Order-independent hash of the training and validation nodes, see `mark`."""
        return mark(self.train, self.val)


def mark(train: Tensor, val: Tensor) -> str:
    """Order-independent hash of the nodes whose labels training may use."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (train, val):
        digest.update(part.sort().values.numpy().tobytes() + b";")
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a graph that are not yet a `Split`: of several splits, or with a part missing.

    Attributes:
        parts: masks `(N, k)` of k splits, or `(N, 1)` of all of them, by `train`, `val` and `test`.
    """

    parts: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        wide = {name: mask.shape[1] for name, mask in self.parts.items() if mask.shape[1] > 1}
        if len(set(wide.values())) > 1:
            raise ValueError(f"the graph's masks have different numbers of columns: {wide}")

    def __len__(self) -> int:
        """Number of splits."""
        return max(mask.shape[1] for mask in self.parts.values())

    def __call__(self, y: Tensor, seed: int) -> Split:
        """The only split there is.

        Raises:
            ValueError: there are several, or a part is missing.
        """
        if len(self) > 1:
            raise ValueError(
                f"the graph's masks hold {len(self)} splits, one a column; choose one: split=0 to split={len(self) - 1}"
            )
        return self.column(0)

    def column(self, column: int) -> Split:
        """Return the split of one column.

        Raises:
            ValueError: there is no such column, a part is missing or empty, or two parts share a node.
        """
        if not 0 <= column < len(self):
            raise ValueError(f"split={column}: the graph's masks have the columns 0 to {len(self) - 1}")
        missing = [name for name in PARTS if name not in self.parts]
        if missing:
            raise ValueError(
                f"the graph has masks for {' and '.join(self.parts)}, but none for {' and '.join(missing)}: "
                "add it, or pass split=(train, val, test)"
            )
        masks = (self.parts[name] for name in PARTS)
        return Split(*(mask[:, column if mask.shape[1] > 1 else 0].nonzero().flatten() for mask in masks))

    def take(self, nodes: Tensor) -> Masks:
        return Masks({name: mask[nodes] for name, mask in self.parts.items()})


def as_split(given: Any, nodes: int) -> Split:
    """Convert any usual form of a split to a `Split`.

    Args:
        given: a `Split`, three masks `(N,)` or lists of node ids for training, validation and test, or a dict of these
            with the keys `train`, `val` or `valid`, and `test`. Masks hold bools, or 0 and 1.
        nodes: number of nodes N.

    Raises:
        ValueError: it is nothing of the kind, a part is empty, a mask has another length, an id is out of range, or two
            parts share a node.

    >>> as_split({"train": [3, 0], "valid": np.array([1]), "test": [2]}, nodes=5).train
    tensor([3, 0])
    >>> as_split(torch.eye(3).bool(), nodes=3).test
    tensor([2])
    """
    if isinstance(given, Split):
        return Split(*(_in_range(name, getattr(given, name), nodes) for name in PARTS))
    parts: list[Any]
    if isinstance(given, Mapping):
        found = {name: [key for key in keys if key in given] for name, keys in _KEYS.items()}
        extra = [key for key in given if key not in sum(_KEYS.values(), ())]
        if extra or any(len(keys) != 1 for keys in found.values()):
            raise ValueError(f"a dict of a split has the keys train, val (or valid) and test, got {list(given)}")
        parts = [given[keys[0]] for keys in found.values()]
    elif isinstance(given, Sequence | Tensor | np.ndarray) and not isinstance(given, str | bytes):
        if getattr(given, "ndim", 2) != 2 or len(given) != 3:
            raise ValueError(f"a split has three parts, for training, validation and test; got {_what(given)}")
        parts = list(given)
    else:
        raise ValueError(f"a split is {_FORMS}; got {_what(given)}")
    return Split(*(_ids(name, part, nodes) for name, part in zip(PARTS, parts)))


def mask_of(name: str, given: Any, nodes: int) -> Tensor:
    """Convert a mask `(N,)` or masks `(N, k)` of bools, or of 0 and 1, to bools `(N, k)`.

    Raises:
        ValueError: it is of another length, or of other values.
    """
    found = _array(name, given)
    if found.ndim not in (1, 2) or len(found) != nodes or (found.ndim == 2 and not found.shape[1]):
        raise ValueError(f"{name} is a mask of the {nodes} nodes, ({nodes},) or ({nodes}, k); got {_what(found)}")
    if found.dtype is not torch.bool and not ((found == 0) | (found == 1)).all():
        raise ValueError(f"{name} is a mask: it holds True and False, or 0 and 1; got {found.dtype} with other values")
    return found.bool().reshape(nodes, -1)


def _ids(name: str, part: Any, nodes: int) -> Tensor:
    """Node ids from a mask or from ids, in their order."""
    what = f"the split's {name} part"
    found = _array(what, part)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ValueError(f"{what} is a mask ({nodes},) or a list of node ids; got {_what(found)}")
    if found.dtype is torch.bool:
        return mask_of(what, found, nodes)[:, 0].nonzero().flatten()
    if not len(found):
        raise ValueError(f"the split has no {name} nodes")
    if found.is_floating_point() or found.is_complex():
        raise ValueError(f"{what} holds node ids, which are integers, or a mask of bools; got {_what(found)}")
    found = found.long()
    if ((found == 0) | (found == 1)).all():
        distinct = len(found.unique()) == len(found)
        if distinct and len(found) == nodes:
            raise ValueError(f"{what} is {found.tolist()}: a mask, or node ids? Pass a mask as bools")
        if not distinct:  # ids do not repeat
            return mask_of(what, found, nodes)[:, 0].nonzero().flatten()
    return _in_range(name, found, nodes)


def _in_range(name: str, ids: Tensor, nodes: int) -> Tensor:
    strange = ids[(ids < 0) | (ids >= nodes)]
    if len(strange):
        raise ValueError(
            f"the split's {name} part names node {int(strange[0])}, but the graph has the nodes 0 to {nodes - 1}"
        )
    return ids


def _array(name: str, given: Any) -> Tensor:
    if isinstance(given, Tensor):
        if given.is_meta or given.layout is not torch.strided:
            kind = "on the device 'meta'" if given.is_meta else str(given.layout)
            raise ValueError(f"{name} is a mask or a list of node ids, dense and with values; got a tensor {kind}")
        return given.detach().cpu()
    try:
        array = np.asarray(given)
        return torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "u" else np.array(array))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is a mask or a list of node ids; got {_what(given)}") from error


def _what(given: Any) -> str:
    shape = getattr(given, "shape", None)
    if shape is not None and hasattr(given, "dtype"):  # which a table has not
        return f"{given.dtype} {tuple(shape)}"
    return f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, Sequence) else "")
