"""The benchmark of one new node asks each network about the same nodes and says what it read."""

from __future__ import annotations

import json
from pathlib import Path

import latency
import numpy as np
import pytest
import torch


def test_rows_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(latency, "TEACHERS", [(2, None), (2, [3, 2])])
    monkeypatch.setattr(latency, "STUDENTS", [(8,), (64, 64)])
    threads = torch.get_num_threads()
    log = tmp_path / "log.json"
    latency.main(["--share", "0.002", "--folder", str(tmp_path), "--answers", "30", "--out", str(log)])
    torch.set_num_threads(threads)
    found = json.loads(log.read_text())
    small, large, whole, sampled = found["rows"]
    assert found["nodes"] == 4898
    assert small["nodes_read"] == large["nodes_read"] == 1
    assert 1 < sampled["nodes_read"] <= 1 + 3 + 6 < whole["nodes_read"]
    assert all(row["answers"] == 30 for row in found["rows"])
    assert small["processor_ms"] < sampled["processor_ms"]
    assert small["processor_ms"] < whole["processor_ms"]
    assert f"{whole['median_ms'] / small['median_ms']:,.1f} (" in capsys.readouterr().out


def test_the_median_is_of_the_answers_after_the_warm_up() -> None:
    calls = iter([0.3] * latency.WARMUP + [0.0] * 21 + [0.3] * 9)

    def answer(nodes: torch.Tensor) -> torch.Tensor:
        __import__("time").sleep(next(calls))
        return torch.zeros(1, latency.CLASSES)

    row = latency.measured(answer, np.arange(30 + latency.WARMUP), 60)
    assert row["median_ms"] < 150 < 290 < row["p95_ms"]
    assert row["answers"] == 30
