"""How long a forward pass takes, by one protocol for teachers and students."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

WARMUP, REPEATS = 2, 10
PROTOCOL = f"one forward pass over all nodes, features and edges in memory, median of {REPEATS} after {WARMUP} warm-ups"


def latency(forward: Callable[[], object]) -> float:
    """Median wall-clock milliseconds of `forward`, by the `PROTOCOL`."""
    seconds = []
    with torch.inference_mode():
        for _ in range(WARMUP + REPEATS):
            start = time.perf_counter()
            forward()
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[WARMUP:])
