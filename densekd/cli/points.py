"""Teach an encoder of objects' point clouds without labels, and see what a linear probe reads off it.

    densekd points configs/bev/plain/lidar_world.py --seeds 3

CONFIG is a detector's whose training data have points and boxes. The points inside each box, centred and scaled to the
unit ball, are a cloud. With each seed an encoder learns by `PointDisCo` from the clouds of all frames but the last
quarter; its control is the same encoder as it was drawn. The probe, a logistic regression on a few labelled clouds of
those frames, is tested on the last quarter: the mean of its recalls, per cent, over fifteen draws of the labelled ones.
Nothing is selected. Writes one log, and the weights of each encoder.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from tqdm import tqdm

from densekd import read_config
from densekd.bev.crops import crop, views
from densekd.bev.point_disco import PointDisCo, PointEncoder
from densekd.bev.point_transformer import PointTransformer
from kdlosses.cli.logs import SCHEMA, Log, commit, peak_memory, reset_peak_memory, versions, write
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table

FEWEST, DRAWS, HELD_OUT = 8, 15, 0.25
"""Points of a cloud; draws of labelled clouds; share of the frames that the probe is tested on."""


ENCODERS: dict[str, Callable[[int], nn.Module]] = {
    "pointnet": lambda channels: PointEncoder(channels=channels),
    "transformer": lambda channels: PointTransformer(channels=channels, groups=16, size=8, depth=2),
}
"""Of a number of channels; objects of the world have few points, so that neighbourhoods are small."""


class Objects(NamedTuple):
    """Clouds `(n_i, 3)`, their classes and the frames that they are of."""

    clouds: list[Tensor]
    labels: np.ndarray
    frames: np.ndarray


def main(arguments: list[str] | None = None) -> None:
    """Train and probe with each seed, write log and weights, print the table."""
    args = parse(arguments)
    name = f"point_disco{'' if args.encoder == 'pointnet' else '_' + args.encoder}-{args.config.stem}"
    log = args.out or Path("results") / "bev" / f"{name}.json"
    folder = args.work_dir or Path("work_dirs") / "bev" / name
    if log.exists() and not args.force:
        raise SystemExit(f"{log} exists: --force trains again and replaces it, --out logs elsewhere")
    weights = [folder / f"seed{seed}.safetensors" for seed in range(args.seeds)]
    for path in weights:
        if path.exists() and not args.force:
            raise SystemExit(f"{path} exists: --force trains again and replaces it, --work-dir writes elsewhere")
    ENCODERS[args.encoder](args.channels)  # what cannot be built says so before frames are read
    found = objects(args.config, args.frames)
    seen = found.frames < (1 - HELD_OUT) * args.frames
    for split, of_it in (("first", seen), ("last", ~seen)):
        counts = np.bincount(found.labels[of_it], minlength=found.labels.max(initial=0) + 1)
        if counts.min() < 2 or len(counts) < 2:
            raise SystemExit(f"{args.config}: too few objects in the {split} frames to tell classes apart: {counts}")
        if split == "first" and counts.min() < args.labelled:
            print(
                f"a class has {counts.min()} objects in the first frames: the probe learns from fewer of it than asked"
            )
    clouds = [cloud for cloud, of_it in zip(found.clouds, seen) if of_it]
    shown = whole(found.clouds)
    runs: list[Log] = []
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        untaught = ENCODERS[args.encoder](args.channels)
        reset_peak_memory()
        start = time.perf_counter()
        taught = train(copy.deepcopy(untaught), clouds, args.iterations, args.batch, args.lr, seed)
        seconds = time.perf_counter() - start
        for role, encoder in (("control", untaught), ("distilled", taught)):
            score = probe(settled(encoder, shown[seen]), shown, found.labels, seen, args.labelled)
            runs.append(
                {
                    **{"schema": SCHEMA, "side": "bev", "name": name, "role": role, "seed": seed},
                    "method": name.partition("-")[0] if role == "distilled" else "untrained",
                    "metrics": {f"probe, {args.labelled} a class": score},
                    "selection": f"last weights, nothing selected; objects in the last {HELD_OUT:.0%} of the frames",
                    "schedule": f"{args.iterations} iterations of {args.batch}" if role == "distilled" else "none",
                    "params": sum(p.numel() for p in encoder.parameters()),
                    "latency_ms": None,
                    "seconds": round(seconds, 1) if role == "distilled" else 0.0,
                    "peak_memory_mb": peak_memory(),
                    "versions": versions("torch", "numpy", "scikit-learn", "mmdet3d"),
                    "commit": commit(),
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        save_file(taught.state_dict(), weights[seed])  # settled by now
        write(log, runs)
    print(table(runs))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd points")
    parser.add_argument("config", type=Path)
    parser.add_argument("--frames", type=int, default=400, help="of the training data, from the first on")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64, help="clouds")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--channels", type=int, default=256, help="of the feature of a cloud")
    parser.add_argument(
        "--encoder", choices=ENCODERS, default="pointnet", help="a PointNet, or a transformer on neighbourhoods"
    )
    parser.add_argument("--labelled", type=int, default=20, help="clouds of each class that the probe learns from")
    parser.add_argument("--out", type=Path, help="the log (default: in results/bev, named after encoder and config)")
    parser.add_argument("--work-dir", type=Path, help="weights (default: work_dirs/bev/point_disco-<config>)")
    parser.add_argument("--force", action="store_true", help="replace log and weights")
    args = parser.parse_args(arguments)
    for option, least in (("frames", 1), ("seeds", 1), ("iterations", 1), ("batch", 2), ("labelled", 1)):
        if getattr(args, option) < least:
            parser.error(f"--{option} must be at least {least}")
    return args


def objects(path: Path, frames: int) -> Objects:
    """Cut the objects out of the first frames of the training data of a config.

    Raises:
        SystemExit: fewer frames than asked for, or no points or boxes in them.
    """
    from mmcv.ops import points_in_boxes_cpu
    from mmdet3d.registry import DATASETS
    from mmengine.registry import init_default_scope

    config = read_config(path)
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    if len(dataset) < frames:
        raise SystemExit(f"{path} has {len(dataset)} frames for training: --frames takes as many at most")
    clouds, labels, of_frame = [], [], []
    for index in tqdm(range(frames), desc="frames"):
        frame = dataset[index]
        truth = frame["data_samples"].gt_instances_3d
        if "points" not in frame["inputs"] or "bboxes_3d" not in truth:
            raise SystemExit(f"{path}: its training pipeline must pack points, gt_bboxes_3d and gt_labels_3d")
        points, boxes = frame["inputs"]["points"][:, :3].float(), truth.bboxes_3d.tensor[:, :7].float()
        inside = points_in_boxes_cpu(points[None], boxes[None])[0].bool() if len(boxes) else points.new_zeros(0, 0)
        for own, label in zip(inside.T, truth.labels_3d.tolist()):
            if label >= 0 and own.sum() >= FEWEST:
                cloud = points[own] - points[own].mean(0)
                clouds.append(cloud / cloud.norm(dim=1).max())
                labels.append(label)
                of_frame.append(index)
    return Objects(clouds, np.array(labels, int), np.array(of_frame, int))


def train(encoder: nn.Module, clouds: list[Tensor], iterations: int, batch: int, lr: float, seed: int) -> nn.Module:
    """Teach an encoder by its own moving average, and return it."""
    model = PointDisCo(encoder, prototypes=256, embedding=64, queue=2048, momentum=0.98).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for step in (bar := tqdm(range(iterations), desc=f"seed {seed}")):
        chosen = torch.randint(len(clouds), (batch,), generator=generator).tolist()
        drawn = [views(clouds[i], generator, local=2, counts=(64, 24)) for i in chosen]
        loss = model([torch.stack(each) for each in zip(*drawn)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.update(step / iterations)
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return encoder


@torch.no_grad()
def settled(encoder: nn.Module, shown: Tensor) -> nn.Module:
    """Let running statistics be those of whole clouds, which the probe reads; of the control as of the taught."""
    for each in encoder.modules():
        if isinstance(each, nn.BatchNorm1d):
            each.reset_running_stats()
            each.momentum = None  # the plain mean over batches
    encoder.train()
    *batches, last = shown.split(128)
    if len(last) == 1 and batches:  # batch normalisation cannot learn from one
        last = torch.cat([batches.pop(), last])
    for batch in (*batches, last):
        encoder(batch)
    return encoder.eval()


@torch.no_grad()
def probe(encoder: nn.Module, shown: Tensor, labels: np.ndarray, seen: np.ndarray, labelled: int) -> float:
    """Mean recall, per cent, of a logistic regression on a few clouds of each class, over draws of them."""
    features = encoder(shown).numpy()
    scores, draw = [], np.random.default_rng(0)
    for _ in range(DRAWS):
        of_class = [np.flatnonzero(seen & (labels == label)) for label in np.unique(labels)]
        chosen = np.concatenate([draw.permutation(each)[:labelled] for each in of_class])
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        said = regression.fit(features[chosen], labels[chosen]).predict(features[~seen])
        scores.append(100 * recall_score(labels[~seen], said, average="macro"))
    return round(float(np.mean(scores)), 4)


def whole(clouds: list[Tensor]) -> Tensor:
    """Clouds `(B, 128, 3)` as they are, with the same draw of points each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([crop(c, (1.0, 1.0), 128, generator, scale=(1.0, 1.0), jitter=0.0) for c in clouds])
