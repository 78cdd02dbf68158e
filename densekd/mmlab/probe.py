"""Probe a model: run it once on a blank image and return the tensors of its taps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from densekd.mmlab.blank import blank
from densekd.sensors.batches import has_sensors, reads_truth
from densekd.taps.queries import called
from densekd.taps.reader import Taps, at_rest, never_fired

IMAGE_SIZE = (128, 128)  # of the blank image: divisible by every usual stride
LARGE = (512, 512)  # for models whose coarsest level would be smaller than a kernel


@torch.no_grad()
def probe(model: nn.Module, specs: Iterable[str], size: tuple[int, int] = IMAGE_SIZE) -> dict[str, list[Tensor]]:
    """Return what each tap yields for one blank image of `size` (height, width) in `mode='tensor'`.

    The model does not change: it runs in evaluation mode, gets its modes back, and updates no statistics.
    """
    with at_rest(model):
        run = ready(model, size)
        with Taps(model, specs) as taps:
            try:
                run()
            except Exception:  # some of mmseg's heads have no mode='tensor'; what comes after the last tap is not read
                if not taps.specs or taps.silent():
                    raise
        silent = taps.silent()
        if silent:
            raise SilentTap(_why_silent(model, silent[0], size))
        return {spec: taps[spec] for spec in taps.specs}


class SilentTap(RuntimeError):
    """A tap that records nothing, although the model runs."""


def _why_silent(model: nn.Module, spec: str, size: tuple[int, int]) -> str:
    """Say why a tap yielded nothing, and which modules like it do."""
    names = [name for name, _ in model.named_modules() if name]
    run = ready(model, size)
    with Taps(model, names, tensors=False) as every, contextlib.suppress(Exception):  # it has been run before
        run()
    quiet = set(every.silent())
    return never_fired(model, spec, [name for name in names if name not in quiet])


def blank_size(models: Sequence[nn.Module], taps: Sequence[Iterable[str]] = ()) -> tuple[int, int]:
    """Return an image size that all models accept: small, else a training size of one of them, else large.

    Some transformers accept the size of their position embedding alone.

    Args:
        models: all that get the image.
        taps: the taps of each; without them the whole forward must run.
    """
    read = taps or [()] * len(models)
    trained_on = [getattr(getattr(model, "data_preprocessor", None), "size", None) for model in models]
    *first, last = [IMAGE_SIZE, *(tuple(size) for size in trained_on if size is not None), LARGE]
    for size in first:
        try:
            for model, specs in zip(models, read):
                probe(model, specs, size)
        except SilentTap:
            return size
        except (RuntimeError, ValueError, AssertionError):  # as each model words it; there is another size to try
            continue
        return size
    return last


def forward(model: nn.Module, size: tuple[int, int]) -> None:
    """Run `mode='tensor'` on a blank image; to record tensors, call `ready` before `Taps`."""
    ready(model, size)()


def ready(model: nn.Module, size: tuple[int, int]) -> Callable[[], Any]:
    """Return a function that runs `mode='tensor'` on a blank image, with metadata and empty ground truth.

    A model of several sensors gets blank ones.
    """
    if reads_truth(model):
        return lambda: model({}, [BaseDataElement(gt_instances_3d=InstanceData())], mode="tensor")
    if has_sensors(model):
        inputs = blank(model, size)
        return lambda: model(*inputs, mode="tensor")
    run = _on_channels(model, size)
    found = _channels(model, run)
    return lambda: run(found)


@torch.no_grad()
def channels(model: nn.Module, size: tuple[int, int]) -> int | None:
    """Channels of the images that a model takes, from its first convolution; None where it has none."""
    if reads_truth(model) or has_sensors(model) or not any(isinstance(each, nn.Conv2d) for each in model.modules()):
        return None
    with at_rest(model):
        return _channels(model, _on_channels(model, size))


def blank_sample(model: nn.Module, size: tuple[int, int]) -> BaseDataElement:
    """The data sample of a blank image: its size, and no instances."""
    weight = next(model.parameters())
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    sample = BaseDataElement(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(bboxes=weight.new_zeros(0, 4), labels=weight.new_zeros(0).long())
    return sample


def _on_channels(model: nn.Module, size: tuple[int, int]) -> Callable[[int], None]:
    """Return a function that runs `mode='tensor'` on a blank image of the given channels."""
    weight, sample = next(model.parameters()), blank_sample(model, size)

    def run(channels: int) -> None:
        image = torch.zeros(1, channels, *size, device=weight.device, dtype=weight.dtype)
        with called(model, [sample]):
            model(image, [sample], mode="tensor")

    return run


def _channels(model: nn.Module, run: Callable[[int], None]) -> int:
    """Channels of the images that a model takes: those that its first convolution agrees with.

    A stem may take more of them, where pixels are folded into channels or a model adds one of its own.
    """
    stem = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if stem is None:
        return 3
    mean = getattr(getattr(model, "data_preprocessor", None), "mean", None)
    known = mean.numel() if isinstance(mean, Tensor) else 0
    agrees: list[bool] = []

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        agrees.append(args[0].shape[1] == stem.in_channels)
        raise _Seen

    hook = stem.register_forward_pre_hook(look)
    try:
        for channels in dict.fromkeys([*([known] if known > 1 else []), stem.in_channels, 3, 1]):
            agrees.clear()
            try:
                run(channels)
            except Exception:  # the stem was reached, or another convolution does not take so many
                if agrees == [True]:
                    return channels
    finally:
        hook.remove()
    return 3 if stem.in_channels % 3 == 0 else stem.in_channels


class _Seen(Exception):
    """Ends a forward at the first convolution."""
