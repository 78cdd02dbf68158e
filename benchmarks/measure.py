"""Time and memory of two variants of one thing, measured so that their ratio means something."""

from __future__ import annotations

import gc
import statistics
import sys
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


class Left:
    """How long the rest of a measurement will take, told on the standard error: as long as its parts took so far.

    Args:
        parts: how many there are.
        clock: seconds.
    """

    def __init__(self, parts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts, self.done, self.clock = parts, 0, clock
        self.start = clock()

    def tell(self, parts: int = 1) -> None:
        """Count parts that are done, and say what is left."""
        self.done = min(self.done + parts, self.parts)
        seconds = (self.clock() - self.start) / self.done * (self.parts - self.done)
        left = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
        print(f"    {self.done} of {self.parts} measured, about {left} left", file=sys.stderr, flush=True)


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
