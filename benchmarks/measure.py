"""Time and memory of two variants of one thing, measured so that their ratio means something."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """A measured ratio and the bound that the project holds itself to."""

    name: str
    value: float
    bound: float
    detail: str

    @property
    def missed(self) -> bool:
        """Whether the value is over the bound by more than half a per cent, which is what two digits show."""
        return self.value > 1.005 * self.bound


def median_ratio(
    one: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Median of time(one) / time(other) over rounds, and the median seconds of each.

    The two go in turn, and who goes first changes with every round.
    """
    for _ in range(2):
        one(), other()
    times: dict[Callable[[], object], list[float]] = {one: [], other: []}
    for turn in range(rounds):
        for step in (one, other) if turn % 2 else (other, one):
            start = clock()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[step].append(clock() - start)
    ratios = [a / b for a, b in zip(times[one], times[other])]
    return statistics.median(ratios), statistics.median(times[one]), statistics.median(times[other])


def peak_bytes(step: Callable[[], object], warm: bool = True) -> int:
    """Peak of the memory allocated on top of what was there before the step; on a CPU exact, call by call."""
    if warm:
        step()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    level = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak
