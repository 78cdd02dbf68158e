"""One run of `rank.py` on digit scenes: semantic segmentation by a `densekd.Distiller`, in this process."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rank import spec
from torch import Tensor, nn

import densekd  # noqa: F401  mends `mmseg::`
from densekd.datasets.digits import draw
from kdlosses.cli.logs import ROOT

TEACHER, STUDENT = "semantic_fpn_r18_w32_digits", "semantic_fpn_r18_w16_digits"
COUNTS = {"train": 600, "val": 150, "test": 150}
BUDGET: dict[str, Any] = {
    "data": f"digit scenes, 64 x 64: {COUNTS}",
    "teacher": f"{TEACHER}, 1200 steps, learning rate 1e-3",
    "student": f"{STUDENT}, 250 steps, learning rate 3e-3",
    "schedule": "batch 8, AdamW, learning rate falling as a cosine after 15 steps, weight decay 0.02, clip 10",
}
PLAN = {TEACHER: (1200, 1e-3), STUDENT: (250, 3e-3)}  # steps, learning rate
CLASSES = 11
Batch = dict[str, Any]


def run(key: str | None, seed: int) -> dict[str, Any]:
    """Train one student with a loss, or without; the teacher is trained first where it is not yet there."""
    init_default_scope("mmseg")
    teacher, its_test = taught()
    torch.manual_seed(seed)
    model: Any = MODELS.build(_config(STUDENT))
    weight = None
    if key is not None:
        neck = model.neck.out_channels, teacher.neck.out_channels
        loss, on_features = spec(key, *neck, CLASSES)
        tap = "neck" if on_features else "decode_head.conv_seg"
        entry = dict(loss=loss, student=tap, name="loss")
        model = MODELS.build(dict(type="densekd.Distiller", student=model, teacher=teacher, distills=[entry]))
        weight = balance(model, tap, next(_batches(1, seed)))
    start = time.perf_counter()
    _train(model, *PLAN[STUDENT], seed)
    seconds = time.perf_counter() - start
    test, val = (100 * mean_iou(model, split) for split in ("test", "val"))
    return dict(metric="mIoU on test scenes", test=test, val=val, teacher=its_test, weight=weight, seconds=seconds)


def balance(model: Any, tap: str, batch: Batch) -> float:
    """The weight with which the loss pulls as hard as the labels at the start, where the student is tapped."""
    before, seen = copy.deepcopy(model.state_dict()), []
    _clock(0, 1)
    hook = model.get_submodule(tap).register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.random.fork_rng(devices=[]):
        model.train()
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    hook.remove()
    taps = [seen[0]] if isinstance(seen[0], Tensor) else list(seen[0])
    soft = losses.pop("distill.loss_loss")
    pulls = [
        _norm(torch.autograd.grad(each, taps, retain_graph=True)) for each in (model.parse_losses(losses)[0], soft)
    ]
    model.load_state_dict(before)
    if not pulls[1] > 0:
        raise ValueError(f"{model.distill.loss.loss.name} has no gradient at the start: it cannot be weighed")
    model.distill.loss.weight = pulls[0] / pulls[1]
    return pulls[0] / pulls[1]


def _norm(gradients: tuple[Tensor, ...]) -> float:
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


@functools.lru_cache(maxsize=1)
def taught() -> tuple[Any, float]:
    """The teacher, the same for all runs, and its mIoU on the test scenes."""
    path = ROOT / "work_dirs" / "rank" / f"{TEACHER}-{PLAN[TEACHER][0]}-{COUNTS['train']}.pth"
    torch.manual_seed(0)
    model: Any = MODELS.build(_config(TEACHER))
    if not path.exists():
        _train(model, *PLAN[TEACHER], seed=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model, 100 * mean_iou(model, "test")


def _config(name: str) -> Any:
    return Config.fromfile(ROOT / "configs" / "seg" / "plain" / f"{name}.py").model


def _train(model: Any, steps: int, rate: float, seed: int) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 15) * 0.5 * (1 + np.cos(np.pi * step / steps))
    )
    model.train()
    torch.manual_seed(seed)
    for step, batch in enumerate(_batches(steps, seed)):
        _clock(step, steps)
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        cosine.step()


def _clock(step: int, steps: int) -> None:
    """Tell losses that follow the progress of the training how far it is."""
    hub = MessageHub.get_current_instance()
    hub.update_info("iter", step)
    hub.update_info("max_iters", steps)


def _batches(steps: int, seed: int) -> Iterator[Batch]:
    images, masks = _scenes("train")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randperm(len(images), generator=generator)[:8].tolist()
        samples = [SegDataSample(gt_sem_seg=PixelData(data=masks[i][None])) for i in chosen]
        yield {"inputs": [images[i] for i in chosen], "data_samples": samples}


@functools.lru_cache(maxsize=3)
def _scenes(split: Any) -> tuple[Tensor, Tensor]:
    """Images `(n, 3, 64, 64)`, blue first as mmcv reads them, and label maps `(n, 64, 64)`."""
    drawn = [draw(index, split, size=64) for index in range(COUNTS[split])]
    images = np.stack([scene.image[..., ::-1].transpose(2, 0, 1) for scene in drawn])
    return torch.from_numpy(images.copy()), torch.from_numpy(np.stack([scene.mask for scene in drawn])).long()


@torch.inference_mode()
def mean_iou(model: Any, split: str) -> float:
    """Mean over classes of intersection over union, counted over all pixels of a split."""
    model.eval()
    images, masks = _scenes(split)
    counts = torch.zeros(CLASSES, CLASSES)
    for some, truth in zip(images.split(50), masks.split(50)):
        logits = model(model.data_preprocessor({"inputs": list(some)}, False)["inputs"], mode="tensor")
        found = F.interpolate(logits, size=truth.shape[1:], mode="bilinear", align_corners=False).argmax(1)
        counts += torch.bincount((CLASSES * truth + found).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    hit = counts.diagonal()
    return (hit / (counts.sum(0) + counts.sum(1) - hit)).mean().item()
