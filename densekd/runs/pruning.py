"""Prune a trained model of OpenMMLab, and write what is left as a plain config with weights."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densekd.checkpoint import load_weights
from densekd.mmlab.building import build_model
from densekd.mmlab.config import control
from densekd.mmlab.probe import blank_sample, blank_size, channels
from densekd.sensors.batches import has_sensors, reads_truth
from kdlosses.rules.coupled_channels import Forward
from kdlosses.rules.prune_channels import PrunedChannels, prune_channels
from kdlosses.taps import at_rest
from kdlosses.whole import whole

CONFIG, WEIGHTS = "pruned.py", "pruned.pth"
WARMUP, REPEATS = 3, 20


class Cost(NamedTuple):
    """What a model costs.

    Attributes:
        parameters: their number.
        flops: of one image, 2 for each multiplication with its addition.
        milliseconds: of the forward of one image, the median of 20.
    """

    parameters: int
    flops: int
    milliseconds: float


class Pruning(NamedTuple):
    """A pruned model.

    Attributes:
        config: of the pruned model; plain, without policies of the sparse training.
        found: what `prune_channels` returned.
        before, after: costs of the model and of the pruned one, measured in turns.
        size: height and width of the image.
        meta: what the checkpoint tells of the data, such as the classes.
    """

    config: Config
    found: PrunedChannels
    before: Cost
    after: Cost
    size: tuple[int, int]
    meta: dict[str, Any]


def prune(
    config: Config,
    checkpoint: str | Path,
    keep: float | Mapping[str, float],
    least: int = 8,
    size: tuple[int, int] | None = None,
    unsafe: bool = False,
) -> Pruning:
    """Prune the plain model of a config with its trained weights, see `kdlosses.rules.prune_channels`.

    Args:
        config: of the model, or of a distiller with it as the student.
        checkpoint: its weights.
        keep: see there.
        least: see there.
        size: height and width of the image on which channels are followed and costs are measured; one that the model
            takes if not given.
        unsafe: see `densekd.checkpoint.read`.

    Raises:
        ValueError: the model is of several sensors or built around another one, the weights do not fit, or see
            `prune_channels`.
    """
    plain = control(copy.deepcopy(config))
    if isinstance(plain.model.get("of"), Mapping):  # which `densekd.Pruned` could not build
        raise ValueError(f"a {plain.model.type} is built around another model, its `of`: it cannot be pruned")
    model: Any = revert_sync_batchnorm(build_model(plain)[0])
    if has_sensors(model) or reads_truth(model):
        raise ValueError(f"a {type(model).__name__} does not read images alone: it cannot be pruned")
    told = load_weights(model, checkpoint, unsafe)
    size = blank_size([model]) if size is None else size
    forward = forward_of(model, size)
    found = prune_channels(model, forward, keep, least)
    before, after = costs([model, found.model], size)
    meta = (told.get("meta") or {}).get("dataset_meta") or {}
    return Pruning(pruned_config(plain, found.widths), found, before, after, size, dict(meta))


def forward_of(model: nn.Module, size: tuple[int, int]) -> Forward:
    """Runs a model, or a copy of it, on a random image: `mode='tensor'`, and the auxiliary heads of a segmenter."""
    answer = _image(model, size)

    def forward(net: Any) -> Any:
        heads = getattr(net, "auxiliary_head", None)
        if heads is None:
            return answer(net)
        image = _pixels(net, size, channels(model, size) or 3)
        features = net.extract_feat(image)
        return answer(net), [head(features) for head in (heads if isinstance(heads, nn.ModuleList) else [heads])]

    return forward


def _image(model: nn.Module, size: tuple[int, int]) -> Forward:
    wide = channels(model, size) or 3
    return lambda net: net(_pixels(net, size, wide), [blank_sample(net, size)], mode="tensor")


def _pixels(net: nn.Module, size: tuple[int, int], wide: int) -> torch.Tensor:
    return torch.randn(1, wide, *size, generator=torch.Generator().manual_seed(0)).to(next(net.parameters()))


@torch.no_grad()
def costs(models: list[nn.Module], size: tuple[int, int]) -> list[Cost]:
    """Costs of models on one image; their forwards take turns, so that a busy machine is as unfair to all."""
    run, flops = _image(models[0], size), []
    for model in models:
        with at_rest(model), FlopCounterMode(display=False) as counted:
            run(model)
        flops.append(counted.get_total_flops())
    spent: list[list[float]] = [[] for _ in models]
    for _ in range(WARMUP + REPEATS):
        for model, own in zip(models, spent):
            with at_rest(model):
                start = time.perf_counter()
                run(model)
                if next(model.parameters()).is_cuda:
                    torch.cuda.synchronize()
                own.append(1000 * (time.perf_counter() - start))
    medians = [statistics.median(own[WARMUP:]) for own in spent]
    counts = [sum(weight.numel() for weight in model.parameters()) for model in models]
    return [Cost(*each) for each in zip(counts, flops, medians)]


def pruned_config(config: Config, widths: Mapping[str, list[int]]) -> Config:
    """The plain config of a pruned model; the weights are to lie beside it.

    Weights that the model would start from elsewhere do not fit any more: these fields go, and so does the policy of
    the sparse training. A model that was pruned before gets the new widths beside its own.
    """
    found = copy.deepcopy(config)
    model = _without_pretrained(found.model.to_dict() if isinstance(found.model, ConfigDict) else dict(found.model))
    again = str(model["type"]).rpartition(".")[2] == "Pruned"
    of, before = (model["of"], model["widths"]) if again else (model["type"], {})
    rest = {key: value for key, value in model.items() if key not in ("type", "of", "widths")}
    found._cfg_dict.pop("model")
    found.model = {"type": "densekd.Pruned", "of": of, **rest, "widths": {**before, **widths}}
    found.load_from = f"{{{{fileDirname}}}}/{WEIGHTS}"
    found.resume = False
    hooks = []
    for hook in found.get("custom_hooks") or []:
        if str(hook.get("type")).rpartition(".")[2] == "Policies":
            left = [each for each in hook["policies"] if _type(each) != "sparse_scales"]
            if not left:
                continue
            hook = ConfigDict(hook, policies=left)
        hooks.append(hook)
    if found.get("custom_hooks") is not None:
        found.custom_hooks = hooks
    return found


def write(pruning: Pruning, folder: str | Path) -> None:
    """Write a new folder with the plain config `pruned.py` and the weights `pruned.pth`.

    Raises:
        OSError: it cannot be written.
    """
    with whole(folder, folder=True) as draft:
        pruning.config.dump(draft / CONFIG)
        state = {"state_dict": pruning.found.model.state_dict(), "meta": {"dataset_meta": pruning.meta}}
        torch.save(state, draft / WEIGHTS)


def _type(spec: Any) -> Any:
    return spec.get("type") if isinstance(spec, Mapping) else spec


def _without_pretrained(value: Any) -> Any:
    """A config without weights that are loaded when a model is initialised."""
    if isinstance(value, list | tuple):
        kept = [each for each in value if not isinstance(each, Mapping) or _type(each) != "Pretrained"]
        return type(value)(map(_without_pretrained, kept))
    if not isinstance(value, Mapping):
        return value
    return {
        key: None
        if key == "pretrained" or (key == "init_cfg" and _type(each) == "Pretrained")
        else _without_pretrained(each)
        for key, each in value.items()
    }
