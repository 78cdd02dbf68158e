"""Teachers: a frozen model, a moving average of the student, or a peer that is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_state_dict
from torch import Tensor, nn

from densekd.checkpoint import alike, load_weights, read, weights_in
from densekd.config import plain_model, read_config
from densekd.sensors.batches import Sensors, has_sensors, reads_truth
from densekd.sensors.normalisation import Renormalise
from densekd.taps.reader import Taps

Source = str | Path | Mapping[str, Any] | nn.Module


class Teacher:
    """A frozen teacher: evaluation mode, no gradients, its own input normalisation.

    It is not an `nn.Module`: its weights are not in the `state_dict` of the model that holds it, nor in the optimiser,
    nor among the buffers that DDP synchronises; and a copy of the model (a moving average) shares it.

    Args:
        name: its name in messages.
        model: the network; its parameters stop requiring gradients.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.model = revert_sync_batchnorm(model).requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def configure(self, student: nn.Module, yields: Mapping[str, int]) -> None:
        """Set the conversion of the student's input, and the number of tensors that each tap yields."""
        self._yields = dict(yields)
        if reads_truth(self.model):
            self._renormalise = _as_it_is
            return
        mine, its = (getattr(model, "data_preprocessor", model) for model in (student, self.model))
        of_sensors = has_sensors(student) and has_sensors(self.model)
        self._renormalise = Sensors(student, self.model) if of_sensors else Renormalise(mine, its)

    @torch.no_grad()
    def run(self, inputs: Any, samples: Any, specs: Iterable[str]) -> Taps:
        """Run on the student's preprocessed batch, no further than the last of the taps `specs`."""
        yields = {spec: self._yields[spec] for spec in specs}
        with Taps(self.model, yields, stop_after=yields) as taps:
            self.model(self._renormalise(inputs, samples), samples, mode="tensor")
        return taps


def _as_it_is(inputs: Any, samples: Any) -> Any:
    return inputs


class MovingAverage(Teacher):
    """The student's own exponential moving average as its teacher (mean teacher).

    `average <- momentum average + (1 - momentum) student` before each step; before the first one the average is a copy
    of the student. Buffers, such as the statistics of batch normalisation, are copied.

    Args:
        name: its name in messages.
        model: a copy of the student.
        momentum: share of the average that stays, in [0, 1).

    Paper: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
    """

    def __init__(self, name: str, model: nn.Module, momentum: float = 0.999) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"teacher {name!r}: momentum must be in [0, 1), got {momentum}")
        super().__init__(name, model)
        self.momentum = momentum
        self.steps = 0

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Update the average with the student's weights."""
        weights = dict(student.named_parameters())
        averages: list[Tensor] = list(self.model.parameters())
        current: list[Tensor] = [weights[name] for name, _ in self.model.named_parameters()]
        share = 1 - self.momentum if self.steps else 1.0
        torch._foreach_lerp_(averages, current, share)
        statistics = dict(student.named_buffers())
        for name, buffer in self.model.named_buffers():
            buffer.copy_(statistics[name])
        self.steps += 1


class Peer(Teacher):
    """An online teacher, trained with the student: by its own losses, and by entries with `back`.

    Its network is part of the distiller: it is optimised, saved and resumed. It is trained on the student's batch, in
    its own normalisation.

    Attributes:
        losses: its own losses, of the last run.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.model = model
        self.losses: dict[str, Any] = {}

    def run(self, inputs: Any, samples: Any, specs: Iterable[str]) -> Taps:
        """Run on the student's preprocessed batch, for its own losses and the taps `specs`."""
        with Taps(self.model, specs) as taps:
            self.losses = self.model(self._renormalise(inputs, samples), samples, mode="loss")
        return taps


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
        return MODELS.build(model), config.get("load_from")


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
        source: see `build_model`.
        checkpoint: file or http(s) address; the config's `load_from` if not given. `'random'` leaves the teacher
            untrained, on purpose. A live module keeps its weights.
        unsafe: see `densekd.checkpoint.read`.
        online: make it a `Peer`, which without a checkpoint starts as its config initialises it.

    Raises:
        ValueError: no checkpoint, or one of another architecture.
    """
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
