"""Distill transformers' SegFormer on CamVid without OpenMMLab: three seeds against the untaught control.

    python benchmarks/plain_segformer.py --seeds 3
    densekd report results/plain/camvid_segformer

All weights are random at the start: there is nothing to download. Images are 90 x 120, a quarter of their width. The
teacher is wider and trains longer; it is trained once, and kept in --work-dir. Every sixth training frame
chooses the epoch; the 101 validation frames of CamVid are the test data. Each run writes a log; those that exist are
not run again.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Subset

import densekd
from densekd.edges import WIDTH
from densekd.plain.outcome import Outcome
from densekd.plain.scenes import Scenes
from kdlosses.cli.logs import SCHEMA, commit, versions, write
from kdlosses.whole import whole

NAME = "camvid_segformer"
RUNS = ("control", "kl")
SELECTION = "best epoch on 62 frames of the training split; test, the 101 validation frames"


def segformer(width: int, depth: int, decoder: int) -> nn.Module:
    """A SegFormer of four stages for the 11 classes of CamVid, with random weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = [width * factor for factor in (1, 2, 4, 8)]
    options: dict[str, Any] = dict(num_labels=11, hidden_sizes=sizes, num_attention_heads=[1, 2, 4, 8])
    config = SegformerConfig(depths=[depth] * 4, decoder_hidden_size=decoder, **options)
    return SegformerForSemanticSegmentation(config)


def camvid(root: Path) -> dict[str, Any]:
    """Training, validation and test data."""

    def scenes(split: str, flip: bool) -> Scenes:
        return Scenes(root / "images" / split, root / "labels" / split, size=(90, 120), label_map={11: 255}, flip=flip)

    train, seen = scenes("train", True), scenes("train", False)
    held = range(0, len(train), 6)
    rest = [i for i in range(len(train)) if i % 6]
    return {"train": Subset(train, rest), "val": Subset(seen, held), "test": scenes("val", False)}


def log_of(role: str, method: str, seed: int, outcome: Outcome, schedule: str) -> dict[str, Any]:
    """A result log, as `densekd report` reads it."""
    return {
        "schema": SCHEMA,
        "side": "plain",
        "name": NAME,
        "role": role,
        "method": method,
        "seed": seed,
        "schedule": schedule,
        "seconds": round(outcome.seconds, 1),
        "metrics": {key: round(100 * outcome.metrics[key], 2) for key in ("mIoU", "bIoU")},
        "boundary_width": WIDTH,
        "val": round(100 * outcome.metrics["val mIoU"], 2),
        "epoch": outcome.epoch,
        "selection": SELECTION,
        "params": sum(each.numel() for each in outcome.model.parameters()),
        "latency_ms": None,
        "versions": versions("torch", "numpy", "transformers", "onedl-mmengine"),
        "commit": commit(),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", nargs="+", default=RUNS, help="control, and names of methods")
    parser.add_argument("--epochs", type=int, default=20, help="of control and students")
    parser.add_argument("--teacher-epochs", type=int, default=50)
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("KD_DATA_ROOT", ".")) / "CamVid")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/plain_segformer"))
    parser.add_argument("--out", type=Path, default=Path("results/plain") / NAME)
    args = parser.parse_args(arguments)
    data = camvid(args.data_root)
    passes = f"epochs of {len(data['train'])} images, batches of 8"

    weights = args.work_dir / "teacher.safetensors"
    teacher = segformer(16, 1, 64)
    if weights.is_file():
        teacher.load_state_dict(load_file(weights))
    else:
        trained = densekd.fit(partial(segformer, 16, 1, 64), **data, epochs=args.teacher_epochs)
        weights.parent.mkdir(parents=True, exist_ok=True)
        with whole(weights) as draft:
            save_file(trained.student.state_dict(), draft)
        teacher.load_state_dict(trained.student.state_dict())
        log = log_of("teacher", "supervised", 0, trained.outcomes["student"], f"{args.teacher_epochs} {passes}")
        write(args.out / "teacher-seed0.json", log)

    for method in args.runs:
        for seed in range(args.seeds):
            file = args.out / f"{method}-seed{seed}.json"
            if file.is_file():
                continue
            taught: dict[str, Any] = {} if method == "control" else dict(teacher=teacher, method=method, control=False)
            result = densekd.fit(partial(segformer, 8, 1, 32), **taught, **data, epochs=args.epochs, seed=seed)
            role, called = ("distilled", method) if taught else ("control", "supervised")
            write(file, log_of(role, called, seed, result.outcomes["student"], f"{args.epochs} {passes}"))
            print(result, flush=True)


if __name__ == "__main__":
    main()
