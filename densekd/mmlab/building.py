"""Build students and teachers from OpenMMLab's configs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_state_dict
from torch import nn

from densekd.checkpoint import alike, load_weights, read, weights_in
from densekd.hub.ready import features_of, is_ready_made
from densekd.mmlab.config import plain_model, read_config
from densekd.sensors.batches import reads_truth
from densekd.teacher import Peer, Teacher

Source = str | Path | Mapping[str, Any] | nn.Module


def build_model(source: Source) -> tuple[nn.Module, str | None]:
    """Build a model from a config path, `pkg::path`, a config or a model dict; return a live module unchanged.

    Returns:
        The model, its weights not loaded yet, and the `load_from` of the config if there is one.

    Raises:
        FileNotFoundError, TypeError: there is no such config, or it holds no model.
    """
    if isinstance(source, nn.Module):
        return source, None
    if not isinstance(source, str | Path | Mapping | Config):
        raise TypeError(f"a model is a config, its path, or a live module, got {source!r}")
    config: Any = read_config(source) if isinstance(source, str | Path) else source
    if "model" not in config:
        config = {"model": config}
    # a distilled student teaches as the plain model that it is
    model = ConfigDict(copy.deepcopy(dict(plain_model(config["model"]))))
    if "type" not in model:
        raise TypeError(f"a model config needs a 'type', got the keys {', '.join(map(repr, model))}")
    if "data_preprocessor" in config:
        model.setdefault("data_preprocessor", config["data_preprocessor"])
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        built = MODELS.build(model)
    levels = getattr(built, "level_embed", None)
    if isinstance(levels, nn.Parameter):  # mmdet's detectors of queries leave it as the memory was until init_weights
        nn.init.normal_(levels)
    return built, config.get("load_from")


def start_from(model: nn.Module, path: str | Path, unsafe: bool = False) -> None:
    """Load the weights of `load_from` that fit the student, as mmengine does, with a warning about the others.

    Raises:
        ValueError: nothing in the file fits.
    """
    weights = weights_in(read(path, unsafe), path)
    weights = {key: value for key, value in weights.items() if not key.startswith("distill.")}
    own = model.state_dict()
    fits = [key for key, value in weights.items() if key in own and alike(own[key], value)]
    if not fits:
        raise ValueError(
            f"load_from {path} holds no weights that fit the student, {type(model).__name__}: it has "
            f"{', '.join([*weights][:3]) or 'no weights'}, the student {', '.join([*own][:3])}"
        )
    if len(fits) < len(own) and hasattr(model, "init_weights"):
        model.init_weights()  # type: ignore[operator]
    load_state_dict(model, weights, strict=False, logger="current")
    if isinstance(model, BaseModule):
        model.is_init = True  # else the runner would initialise it anew


def build_teacher(
    name: str, source: Source, checkpoint: str | Path | None = None, unsafe: bool = False, online: bool = False
) -> Teacher:
    """Build a teacher and load its weights.

    Args:
        name: its name in messages.
        source: see `build_model`; or the name of a network with its weights, such as `hf:FOLDER`, see
            `densekd.hub.ready.features_of`.
        checkpoint: file or http(s) address; the config's `load_from` if not given. `'random'` leaves the teacher
            untrained, on purpose. A live module keeps its weights.
        unsafe: see `densekd.checkpoint.read`.
        online: make it a `Peer`, which without a checkpoint starts as its config initialises it.

    Raises:
        ValueError: no checkpoint, or one of another architecture; or one for a network that has its weights.
    """
    if isinstance(source, str) and is_ready_made(source):
        if checkpoint is not None or online:
            raise ValueError(f"teacher {name!r}, {source}, comes with its weights: it takes no checkpoint, nor learns")
        source = features_of(source)
        print_log(f"teacher {name!r}: {source.told()}", logger="current")
    model, load_from = build_model(source)
    if not (checkpoint is None or isinstance(checkpoint, str | Path)):
        raise TypeError(f"teacher {name!r}: checkpoint must be a path or an address, got {checkpoint!r}")
    checkpoint = checkpoint or load_from
    if online and checkpoint is None and not isinstance(source, nn.Module):
        model.init_weights()  # type: ignore[operator]
    elif checkpoint is None and not isinstance(source, nn.Module) and not reads_truth(model):
        raise ValueError(f"teacher {name!r} has no weights: give checkpoint=..., or 'random' for an untrained one")
    if checkpoint not in (None, "random"):
        load_weights(model, checkpoint, unsafe)
    return Peer(name, model) if online else Teacher(name, model)
