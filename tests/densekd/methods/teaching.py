"""What a method teaches beside the labels, on digit scenes that the student has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from densekd import Distiller
from densekd.datasets.digits import draw
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config

Batches = Callable[[Any, int, int, str], dict[str, Any]]
STEPS = 12


def scenes_of_pixels(model: Any, start: int, count: int, split: str) -> dict[str, Any]:
    """Some digit scenes with their label maps, as a segmenter takes them."""
    drawn = [draw(n, split, size=64) for n in range(start, start + count)]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(each.mask)[None].long())) for each in drawn]
    return model.data_preprocessor({"inputs": _images(drawn), "data_samples": samples}, True)


def scenes_of_objects(model: Any, start: int, count: int, split: str) -> dict[str, Any]:
    """Some digit scenes with their boxes, as a detector takes them."""
    drawn = [draw(n, split, size=64) for n in range(start, start + count)]
    samples = []
    for each in drawn:
        shapes = dict.fromkeys(("img_shape", "ori_shape"), each.image.shape[:2])
        sample = DetDataSample(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
        boxes, digits = torch.from_numpy(each.boxes), torch.from_numpy(each.digits)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=digits)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.tensor([], dtype=torch.long))
        samples.append(sample)
    return model.data_preprocessor({"inputs": _images(drawn), "data_samples": samples}, True)


def _images(drawn: list[Any]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(each.image[..., ::-1].transpose(2, 0, 1))) for each in drawn]


@torch.no_grad()
def settle(model: Any, batches: Batches) -> None:
    """Set the running statistics to those of scenes, so that features are as large as a trained model's."""
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.momentum = 1.0
    model.train()
    model(**batches(model, 0, 16, "train"), mode="loss")
    model.eval()


def gap(student: Path, teacher: Path, method: Any, batches: Batches, taught: bool, steps: int = STEPS) -> float:
    """The method's own loss on unseen scenes; untaught, what it learns itself is trained alone: the control."""
    with DefaultScope.overwrite_default_scope(read_config(student).default_scope):
        torch.manual_seed(1)
        its: Any = revert_sync_batchnorm(build_model(teacher)[0])
        settle(its, batches)
        torch.manual_seed(0)
        model: Any = revert_sync_batchnorm(Distiller(student=build_model(student)[0], teacher=its, method=method))
    own = [parameter for parameter in model.distill.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    for step in range(steps):
        losses = model(**batches(model, 4 * step, 4, "train"), mode="loss")
        hint = torch.stack([value for key, value in losses.items() if key.startswith("distill.")]).sum()
        labels, _ = model.parse_losses({key: value for key, value in losses.items() if "distill." not in key})
        optimiser.zero_grad()
        if taught:
            (labels + hint).backward()
        else:
            gradients = torch.autograd.grad(hint, own, retain_graph=True, allow_unused=True) if own else ()
            labels.backward()
            for parameter, gradient in zip(own, gradients):
                parameter.grad = gradient
        optimiser.step()
    with torch.no_grad():
        losses = model(**batches(model, 0, 8, "val"), mode="loss")
    return sum(value.item() for key, value in losses.items() if key.startswith("distill."))
