"""A small vision transformer with and without a masked stage before its task, on CamVid.

    python benchmarks/masked_camvid.py
    densekd report results/pretrain/masked_camvid

The teacher, a larger transformer, learns to rebuild hidden patches of the training frames, then their classes. The
student, a smaller one, has the labels of 40 frames. The control learns from these alone; all other students also learn
the teacher's first class at each pixel, which is the specific stage of G2SD. They start from random weights, or from
the weights of a masked stage on all frames without labels: `g2sd`, the generic stage, `dmae`, `mae` or `further`.
Frames are 96 x 128. Every sixth training frame is validation data and chooses the epoch, the 101 validation frames of
CamVid are the test data. Finished runs are kept.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

import densekd
from densekd.edges import WIDTH
from densekd.hub.features import Features
from densekd.hub.images import find_images
from densekd.hub.masked import Autoencoder, MaskedPretraining, further
from densekd.plain.outcome import Outcome
from densekd.plain.scenes import Scenes
from kdlosses.cli.logs import ROOT, SCHEMA, Log, commit, read, versions, write
from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table

SIZE = (96, 128)
STAGES = ("none", "mae", "dmae", "g2sd", "further")
SELECTION = "best epoch on 62 frames of the training split; test, the 101 validation frames"


class Vit(nn.Module):
    """A plain vision transformer of 16 x 16 patches; a map `(B, width, 6, 8)`."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 16, stride=16)
        self.places = nn.Parameter(0.02 * torch.randn(1, width, SIZE[0] // 16, SIZE[1] // 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 16, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images) + self.places
        tokens = x.flatten(2).movedim(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).movedim(1, 2).unflatten(2, x.shape[2:])


class Segmenter(nn.Module):
    """A backbone with a linear head of four logits a side for each patch."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Conv2d(width, 11 * 16, 1), nn.PixelShuffle(4))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, write the logs, print the table."""
    parser = Parser(__doc__, "benchmarks/masked_camvid.py")
    parser.add_argument("--seeds", type=whole(1), default=3)
    parser.add_argument("--steps", type=whole(1), default=120, help="of each masked stage, of 8 crops")
    parser.add_argument("--epochs", type=whole(1), default=12, help="of each student, over 40 frames")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "pretrain" / "masked_camvid")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    root = Path(os.environ["KD_DATA_ROOT"]) / "CamVid"
    data, images = frames(root), find_images(root / "images" / "train")
    logs: list[Log] = []
    for seed in range(args.seeds):
        file = args.out / f"seed{seed}.json"
        if not file.exists():
            write(file, run_seed(seed, data, images, args.steps, args.epochs))
        logs += read(file)
        print(table(logs), flush=True)


def frames(root: Path) -> dict[str, Any]:
    """Training, validation and test data; `few` are the labelled frames of the student."""

    def scenes(split: str, flip: bool) -> Scenes:
        return Scenes(root / "images" / split, root / "labels" / split, size=SIZE, label_map={11: 255}, flip=flip)

    train = scenes("train", True)
    rest = [each for each in range(len(train)) if each % 6]
    held = Subset(scenes("train", False), range(0, len(train), 6))
    few = Subset(train, rest[:: len(rest) // 40][:40])
    return {"train": Subset(train, rest), "few": few, "val": held, "test": scenes("val", False)}


def run_seed(seed: int, data: dict[str, Any], images: list[Path], steps: int, epochs: int) -> list[Log]:
    """The teacher, and the student after each masked stage, with and without the teacher's classes."""
    options: dict[str, Any] = dict(steps=steps, batch=8, size=SIZE, seed=seed, device="cpu")
    torch.manual_seed(seed)
    large = Features("large", Vit(96, 4))
    with tempfile.TemporaryDirectory() as place:
        first = MaskedPretraining(large, {}, images, **options)
        first.run(Path(place), steps, silent)
        held_out = {"mae, teacher": first.history}
        guide = first.autoencoder()
        fitted = dict(val=data["val"], test=data["test"], batch_size=8, seed=seed, device="cpu", log=silent)
        teacher = densekd.fit(Segmenter(large.network, 96), train=data["train"], epochs=max(1, epochs // 4), **fitted)
        schedule = f"{epochs} epochs over {len(data['few'])} frames"
        logs = [log_of("teacher", "vit", seed, teacher.outcomes["student"], f"{max(1, epochs // 4)} epochs over all")]
        for stage in STAGES:
            torch.manual_seed(seed)
            small = Features("small", Vit(32, 2))
            history = pretrained(stage, small, guide, images, Path(place) / stage, options)
            held_out |= {stage: history} if history else {}
            student = Segmenter(small.network, 32)
            entries = [dict(loss="pseudo", student=":", teacher=":")]
            own: dict[str, Any] = dict(train=data["few"], distills=entries, epochs=epochs, control=stage == "none")
            outcomes = densekd.fit(student, teacher.student, **own, **fitted).outcomes
            if stage == "none":
                logs.append(log_of("control", "labels", seed, outcomes["control"], schedule))
            method = "specific" if stage == "none" else f"{stage}, then specific"
            logs.append(log_of("distilled", method, seed, outcomes["student"], schedule))
    return [
        {**log, "held_out": {k: [h[0]["held_out"], h[-1]["held_out"]] for k, h in held_out.items()}} for log in logs
    ]


def pretrained(
    stage: str, small: Features, guide: Autoencoder, images: list[Path], out: Path, options: dict[str, Any]
) -> list[dict[str, float]]:
    """Let the student's backbone pass a masked stage; return its losses on the images held out."""
    if stage == "none":
        return []
    if stage == "further":
        return further(small, images, out, every=options["steps"], say=silent, **options).history
    teachers = {"large": copy.deepcopy(guide.features)} if stage == "dmae" else {}
    guided = guide if stage == "g2sd" else None
    training = MaskedPretraining(small, teachers, images, kind=stage, guide=guided, **options)
    return training.run(out, options["steps"], silent)


def log_of(role: str, method: str, seed: int, outcome: Outcome, schedule: str) -> Log:
    """A result log, as `densekd report` reads it."""
    return {
        **dict(schema=SCHEMA, side="plain", name="masked_camvid", role=role, method=method, seed=seed),
        **dict(schedule=schedule, seconds=round(outcome.seconds, 1), boundary_width=WIDTH, latency_ms=None),
        "metrics": {key: round(100 * outcome.metrics[key], 2) for key in ("mIoU", "bIoU")},
        "val": round(100 * outcome.metrics["val mIoU"], 2),
        "epoch": outcome.epoch,
        "selection": SELECTION,
        "params": sum(each.numel() for each in outcome.model.parameters()),
        "versions": versions("torch", "numpy"),
        "commit": commit(),
    }


def silent(line: str) -> None:
    """Say nothing of the epochs."""


if __name__ == "__main__":
    main()
