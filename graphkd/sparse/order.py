"""The order of edges, found out block by block, so that a map stays on disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK = 1 << 22  # edges at a time


def sorted_both_ways(source: np.ndarray, target: np.ndarray, nodes: int) -> bool:
    """Whether edges are sorted by target, then by source, each once and in both directions, none a self-loop.

    That each has its reverse is told by sums of a 64-bit hash over the edges and over their reverses: where one has
    none, they are equal once in 2^64 times.

    >>> sorted_both_ways(np.array([1, 0, 2, 1]), np.array([0, 1, 1, 2]), 3)
    True
    >>> sorted_both_ways(np.array([1, 0, 2]), np.array([0, 1, 1]), 3)
    False
    """
    last, total = -1, 0
    for start in range(0, len(source), _BLOCK):
        part = slice(start, start + _BLOCK)
        one, other = source[part], target[part]
        keys = other * nodes + one
        if keys[0] <= last or (keys[1:] <= keys[:-1]).any() or (one == other).any():
            return False
        last = keys[-1]
        total += int(_mixed(keys).sum()) - int(_mixed(one * nodes + other).sum())  # each modulo 2^64
    return total % (1 << 64) == 0


def keys_by_target(source: np.ndarray, target: np.ndarray, nodes: int) -> Iterator[np.ndarray]:
    """Edges as numbers `target N + source`, a block at a time."""
    for start in range(0, len(source), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield target[part] * nodes + source[part]


def _mixed(keys: np.ndarray) -> np.ndarray:
    """A hash of each number (splitmix64: Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014)."""
    z = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
