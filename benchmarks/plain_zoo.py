"""Distill segmenters of segmentation-models-pytorch, timm and torchvision on a few images: does it run?

    pip install torchvision timm segmentation-models-pytorch lightning
    python benchmarks/plain_zoo.py                        # all pairs
    python benchmarks/plain_zoo.py smp --images 64 --epochs 3

Images are CamVid's. All weights are random and the budget is tiny, so that the figures say nothing about the methods.
For each pair each method takes two steps in a loop of one's own, then `densekd.fit` trains teacher, control and
student. What fails is printed with its error, and the command then ends with 1. With Lightning, if it is installed, the
first pair takes two steps in a `LightningModule`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import densekd
from densekd.plain.scenes import Scenes
from densekd.plain.scores import task_loss

CLASSES = 11
SIZE = (64, 96)
METHODS = ("kl", "cwd", "dist", "skd", "ifvd", "cirkd", "pkd", "mgd")
FAILED: list[str] = []


def unet(encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet(encoder, encoder_weights=None, classes=CLASSES)


def deeplab_plus(encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=CLASSES)


def backbone(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, features_only=True, pretrained=False)


class Decoded(nn.Module):
    """A backbone of timm whose maps are projected, resized and added up, and a classifier of pixels."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.backbone = backbone(name)
        info: Any = self.backbone.feature_info
        channels = info.channels()[-4:]
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.classifier = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [project(each) for project, each in zip(self.lateral, self.backbone(x)[-4:])]
        size = found[0].shape[2:]
        summed = torch.stack([F.interpolate(each, size, mode="bilinear") for each in found]).sum(0)
        return self.classifier(summed.relu())


def of_torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES)


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "smp": (lambda: unet("resnet34"), lambda: unet("resnet18")),
    "smp-deeplab": (lambda: deeplab_plus("resnet34"), lambda: deeplab_plus("timm-mobilenetv3_small_100")),
    "timm": (lambda: Decoded("resnet34", 64), lambda: Decoded("mobilenetv3_small_100", 32)),
    "torchvision-fcn": (lambda: of_torchvision("fcn_resnet50"), lambda: of_torchvision("lraspp_mobilenet_v3_large")),
    "torchvision-deeplab": (
        lambda: of_torchvision("deeplabv3_resnet50"),
        lambda: of_torchvision("deeplabv3_mobilenet_v3_large"),
    ),
}
"""Teacher and student; none of them needs a download."""


@contextmanager
def tried(what: str) -> Iterator[None]:
    """Print what failed, or is refused as it should be, and go on."""
    try:
        yield
    except Exception as error:  # whatever a library raises is what this command is for
        refused = "has no default tap for features" in str(error)  # LR-ASPP: two classifiers read two maps
        FAILED.extend([] if refused else [what])
        print(f"  {what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)


def scenes(root: Path, split: str, count: int) -> Subset:
    found = Scenes(root / "images" / split, root / "labels" / split, size=SIZE, label_map={11: 255})
    return Subset(found, range(0, len(found), max(1, len(found) // count))[:count])


def two_steps(distillation: Any, batches: DataLoader) -> list[float]:
    """The distillation losses of two steps in a loop of one's own."""
    optimiser = torch.optim.AdamW(distillation.parameters(), lr=1e-3)
    distillation.train()
    found = []
    for images, labels in itertools.islice(itertools.cycle(batches), 2):
        output, losses = distillation(images, context=dict(labels=labels, progress=0.0, epoch=0))
        soft = torch.stack(list(losses.values())).sum()
        task = soft if isinstance(output, list) else soft + task_loss(output, labels)
        optimiser.zero_grad()
        task.backward()
        optimiser.step()
        found.append(float(soft.detach()))
    return found


def own_loop(name: str, methods: list[str], batches: DataLoader) -> None:
    """Each method on a pair, and features of timm by taps on the list that a backbone returns."""
    build_teacher, build_student = PAIRS[name]
    images = next(iter(batches))[0]
    for method in methods:
        torch.manual_seed(0)
        with tried(f"{name}, {method}"):
            first, second = two_steps(
                densekd.Distillation(build_student(), build_teacher(), method=method, example=images), batches
            )
            print(f"  {method}: {first:.4g}, then {second:.4g}", flush=True)
    if name == "timm":
        entries = [dict(loss="mse", student=f":{i}", teacher=f":{i}", name=f"stage {i}") for i in (2, 3, 4)]
        with tried(f"{name}, features_only"):
            pair = backbone("mobilenetv3_small_100"), backbone("resnet34")
            first, second = two_steps(densekd.Distillation(*pair, entries, example=images), batches)
            print(f"  features_only, stages 2 to 4: {first:.4g}, then {second:.4g}", flush=True)


def in_lightning(batches: DataLoader) -> None:
    """Two steps of the first pair in a `LightningModule`."""
    import lightning

    build_teacher, build_student = PAIRS["smp"]
    images = next(iter(batches))[0]

    class Distilled(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.distillation = densekd.Distillation(build_student(), build_teacher(), method="cwd", example=images)

        def training_step(self, batch: tuple[Tensor, Tensor], place: int) -> Tensor:
            output, losses = self.distillation(batch[0])
            return task_loss(output, batch[1]) + sum(losses.values())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.distillation.parameters(), lr=1e-3)

    quiet: dict[str, Any] = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer = lightning.Trainer(max_steps=2, accelerator="cpu", enable_model_summary=False, **quiet)
    module = Distilled()
    trainer.fit(module, batches)
    teachers = [key for key in module.state_dict() if "teacher" in key]
    print(f"lightning: {trainer.global_step} steps, {len(teachers)} entries of a teacher in the state dict", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", help=f"of {', '.join(PAIRS)} (default: all)")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--images", type=int, default=16, help="of each split")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("KD_DATA_ROOT", ".")) / "CamVid")
    args = parser.parse_args(arguments)
    for name in args.pairs:
        if name not in PAIRS:
            parser.error(f"no pair is called {name!r}; known: {', '.join(PAIRS)}")
    options: dict[str, Any] = dict(epochs=args.epochs, batch_size=args.batch_size, log=str)
    for package in ("torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning"):
        with tried(package):
            print(package, importlib.metadata.version(package))
    train, val = scenes(args.data_root, "train", args.images), scenes(args.data_root, "val", args.images)
    batches = DataLoader(train, args.batch_size, drop_last=True)
    for name in args.pairs or PAIRS:
        start = time.perf_counter()
        print(f"{name}, losses of two steps", flush=True)
        own_loop(name, args.methods, batches)
        with tried(f"{name}, densekd.fit"):
            teacher = densekd.fit(PAIRS[name][0], train=train, val=val, **options).student
            print(densekd.fit(PAIRS[name][1], teacher, train=train, val=val, method="kl", **options))
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    if importlib.util.find_spec("lightning") is not None:
        with tried("lightning"):
            in_lightning(batches)
    if FAILED:
        sys.exit(f"{len(FAILED)} failed: {'; '.join(FAILED)}")


if __name__ == "__main__":
    main()
