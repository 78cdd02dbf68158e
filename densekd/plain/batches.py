"""Data sets and batches of images and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Data = Dataset | Sequence[Any] | DataLoader


def loader(data: Any, batch_size: int, order: torch.Generator | None = None) -> DataLoader:
    """Return batches of a data set, in a random order if that is given; a `DataLoader` is returned unchanged.

    Raises:
        TypeError: it is neither.
        ValueError: it is empty.
    """
    if not isinstance(data, DataLoader):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise TypeError(f"data must be a data set with a length, or a DataLoader, got a {type(data).__name__}")
        if not len(data):
            raise ValueError("a data set is empty")
        last = order is not None and len(data) > batch_size  # batch normalisation cannot train on one sample
        data = DataLoader(data, batch_size, shuffle=order is not None, generator=order, drop_last=last)
    try:
        count = len(data)
    except TypeError as error:
        raise TypeError("a DataLoader must have a length, which one of an IterableDataset lacks") from error
    if not count:
        raise ValueError("a DataLoader has no batch")
    return data


def first(batches: DataLoader) -> Any:
    """Return the first batch, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        return next(iter(batches))


def labels_of(batch: Any) -> Tensor:
    """Return the labels of a batch: the entry `labels` of a dict, or the second of a pair.

    Raises:
        TypeError: it has none.
    """
    if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor):
        return batch["labels"]
    if isinstance(batch, list | tuple) and len(batch) == 2 and isinstance(batch[1], Tensor):
        return batch[1]
    raise TypeError(
        f"a batch must be a pair (input, labels), or a dict with 'labels' and keywords of the model; got "
        f"{list(batch) if isinstance(batch, Mapping) else type(batch).__name__}"
    )


def inputs(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the model, without the labels."""
    if isinstance(batch, Mapping):
        return (), {key: value for key, value in batch.items() if key != "labels"}
    return (batch[0],), {}


def moved(value: Any, device: torch.device) -> Any:
    """Move the tensors of a batch to a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: moved(each, device) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [moved(each, device) for each in value]
    return value
