from __future__ import annotations

import time

import torch
from benchmark import median_ratio, peak_bytes


def test_a_ratio_of_times() -> None:
    ratio, slow, fast = median_ratio(lambda: time.sleep(0.02), lambda: time.sleep(0.01), rounds=5)
    assert 1.5 < ratio < 2.5
    assert slow > fast


def test_peak_memory_is_what_lives_at_once() -> None:
    def at_once() -> None:
        kept = [torch.ones(1 << 18) for _ in range(4)]
        assert len(kept) == 4

    def in_turn() -> None:
        for _ in range(4):
            torch.ones(1 << 18)

    assert 4 << 20 <= peak_bytes(at_once) < 5 << 20
    assert 1 << 20 <= peak_bytes(in_turn) < 3 << 20
