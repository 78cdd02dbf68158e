"""Run a model once on a blank image, to learn what its taps yield before any training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from densekd.bev.sensors import blank, has_sensors, reads_truth
from densekd.taps import Taps

IMAGE_SIZE = (128, 128)  # of the blank image: divisible by every usual stride


@torch.no_grad()
def probe(model: nn.Module, specs: Iterable[str], size: tuple[int, int] = IMAGE_SIZE) -> dict[str, list[Tensor]]:
    """Return what each tap yields for one blank image of `size` (height, width) in `mode='tensor'`.

    The model is left as it was: evaluation mode inside, its own modes afterwards, no statistics updated.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with Taps(model, specs) as taps:
            forward(model, size)
        return {spec: taps[spec] for spec in taps.specs}
    finally:
        for module, mode in modes.items():
            module.training = mode


def blank_size(models: Sequence[nn.Module]) -> tuple[int, int]:
    """Return a size of image that all models run on: a small one, else what one of them is trained on.

    Some transformers accept the size of their position embedding alone.
    """
    trained_on = [getattr(getattr(model, "data_preprocessor", None), "size", None) for model in models]
    *first, last = [IMAGE_SIZE, *(tuple(size) for size in trained_on if size is not None)]
    for size in first:
        try:
            for model in models:
                probe(model, (), size)
        except (RuntimeError, ValueError, AssertionError):  # as each model words it; there is another size to try
            continue
        return size
    return last


def forward(model: nn.Module, size: tuple[int, int]) -> None:
    """Run `mode='tensor'` on a blank image, with the metadata and the empty truth that some detectors ask for.

    A model of several sensors gets blank ones.
    """
    if reads_truth(model):
        model({}, [BaseDataElement(gt_instances_3d=InstanceData())], mode="tensor")
        return
    if has_sensors(model):
        model(*blank(model, size), mode="tensor")
        return
    stem = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    channels = 3 if stem % 3 == 0 else stem  # some stems fold pixels into channels first
    weight = next(model.parameters())
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    sample = BaseDataElement(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(bboxes=weight.new_zeros(0, 4), labels=weight.new_zeros(0).long())
    model(torch.zeros(1, channels, *size, device=weight.device, dtype=weight.dtype), [sample], mode="tensor")
