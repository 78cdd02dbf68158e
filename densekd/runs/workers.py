"""Seed loader workers by the position in training, so that a resumed run has the same augmentation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info


def seed_by_position(loader: DataLoader, seed: int, rank: int, start: int) -> None:
    """Seed all random generators of a loader's workers for each batch.

    The seed follows from `seed`, `rank`, the number of the batch, counted from `start`, and the indices in it. So a
    resumed run augments the next batch as the interrupted one would have. Without workers this does nothing: the main
    process draws, and a checkpoint keeps its state.
    """
    inner = loader.worker_init_fn
    if isinstance(inner, partial) and inner.func is _start:
        inner = inner.keywords["inner"]
    loader.worker_init_fn = partial(_start, inner=inner, seed=seed, rank=rank, start=start)


def _start(worker: int, inner: Callable[[int], None] | None, seed: int, rank: int, start: int) -> None:
    if inner is not None:
        inner(worker)
    info: Any = get_worker_info()
    numbers = count(start + worker, info.num_workers)  # batches are dealt out to the workers in turn

    def get_batch(indices: Sequence[int]) -> list[Any]:
        state = np.random.SeedSequence([seed, rank, next(numbers), *map(int, indices)]).generate_state(1)
        value = int(state[0])
        random.seed(value)
        np.random.seed(value)  # noqa: NPY002 - the generator that OpenMMLab's transforms draw from
        torch.manual_seed(value)
        return [info.dataset[index] for index in indices]

    info.dataset.__getitems__ = get_batch  # where torch's fetcher looks first; only in this worker's copy
