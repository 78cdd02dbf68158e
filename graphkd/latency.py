"""How long a forward pass takes, by one protocol for teachers and students."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

PROTOCOL = "one forward pass over all nodes, features and edges in memory, median of {repeats} after {warmup} to warm up"


def latency(forward: Callable[[], object], warmup: int = 2, repeats: int = 10) -> float:
    """Median wall-clock milliseconds of `forward`, without gradients."""
    seconds = []
    with torch.inference_mode():
        for _ in range(warmup + repeats):
            start = time.perf_counter()
            forward()
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[warmup:])
