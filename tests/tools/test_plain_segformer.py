"""The benchmark of transformers' SegFormer, in short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plain_segformer
from PIL import Image

from kdlosses.cli.logs import read
from kdlosses.cli.report import table


def scenes(root: Path) -> None:
    draw = np.random.default_rng(0)
    for split, count in (("train", 13), ("val", 2)):
        for name in ("images", "labels"):
            (root / name / split).mkdir(parents=True)
        for i in range(count):
            classes = draw.integers(0, 12, (9, 12), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
            Image.fromarray(np.stack([classes * 20] * 3, -1)).save(root / "images" / split / f"{i}.png")
            Image.fromarray(classes).save(root / "labels" / split / f"{i}.png")


def test_logs_of_a_short_run_make_a_table_and_are_not_made_twice(tmp_path: Path) -> None:
    scenes(tmp_path / "CamVid")
    folders = {"--data-root": "CamVid", "--work-dir": "work", "--out": "out"}
    options = [part for key, name in folders.items() for part in (key, str(tmp_path / name))]
    short = ["--seeds", "2", "--runs", "control", "kl", "--epochs", "1", "--teacher-epochs", "1"]
    plain_segformer.main(options + short)
    logs = read(tmp_path / "out")
    assert sorted((log["role"], log["method"], log["seed"]) for log in logs) == [
        *(("control", "supervised", seed) for seed in (0, 1)),
        *(("distilled", "kl", seed) for seed in (0, 1)),
        ("teacher", "supervised", 0),
    ]
    assert "| distilled, kl | 2 |" in table(logs)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    plain_segformer.main(options + short)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
