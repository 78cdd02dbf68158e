"""A frozen model that is asked what it sees in the student's batch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from densekd.checkpoint import load_weights
from densekd.config import read_config
from densekd.taps import Taps

Source = str | Path | Mapping[str, Any] | nn.Module


class Teacher:
    """A teacher, really frozen: evaluation mode everywhere, no gradients, its own input normalisation.

    It is no `nn.Module`, so that a model that owns one has none of its weights in `state_dict`, in the optimiser, or
    among the buffers that DDP synchronises; and a copy of the model (a moving average) shares it.

    Args:
        name: how messages call it.
        model: the network; its parameters stop requiring gradients.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.model = revert_sync_batchnorm(model).requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    @torch.no_grad()
    def look(self, inputs: Any, samples: Any, taps: Taps, student_preprocessor: nn.Module) -> None:
        """Run on the batch as the student's preprocessor made it; `taps` then hold what was seen."""
        inputs = renormalise(inputs, samples, student_preprocessor, self.model.data_preprocessor)
        with taps:
            self.model(inputs, samples, mode="tensor")


class MovingAverage(Teacher):
    """The student's own exponential moving average as its teacher (mean teacher).

    `average <- momentum average + (1 - momentum) student` before each step; before the first one the average is a copy
    of the student. Buffers, such as the statistics of batch normalisation, are copied.

    Args:
        name: how messages call it.
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
        """Move towards the student."""
        weights = dict(student.named_parameters())
        averages: list[Tensor] = list(self.model.parameters())
        current: list[Tensor] = [weights[name] for name, _ in self.model.named_parameters()]
        share = 1 - self.momentum if self.steps else 1.0
        torch._foreach_lerp_(averages, current, share)
        statistics = dict(student.named_buffers())
        for name, buffer in self.model.named_buffers():
            buffer.copy_(statistics[name])
        self.steps += 1


def build_model(source: Source) -> tuple[nn.Module, str | None]:
    """Build a model from a config path, `pkg::path`, a config, a model dict, or take a live module as it is.

    Returns:
        The model, its weights not loaded yet, and the `load_from` of the config if there is one.

    Raises:
        FileNotFoundError, TypeError: there is no such config, or it holds no model.
    """
    if isinstance(source, nn.Module):
        return source, None
    config: Any = read_config(source) if isinstance(source, str | Path) else source
    if "model" not in config:
        config = {"model": config}
    model = ConfigDict(copy.deepcopy(dict(config["model"])))
    if str(model.get("type", "")).endswith("densekd.Distiller"):
        model = model["student"]  # a distilled student teaches as the plain model that it is
    if "type" not in model:
        raise TypeError(f"a model config needs a 'type', got the keys {', '.join(map(repr, model))}")
    if "data_preprocessor" in config:
        model.setdefault("data_preprocessor", config["data_preprocessor"])
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        return MODELS.build(model), config.get("load_from")


def build_teacher(name: str, source: Source, checkpoint: str | Path | None = None, unsafe: bool = False) -> Teacher:
    """Build a teacher and load its weights.

    Args:
        name: how messages call it.
        source: see `build_model`.
        checkpoint: file or http(s) address; the config's `load_from` if not given. `'random'` leaves the teacher
            untrained, on purpose. A live module keeps its weights.
        unsafe: see `densekd.checkpoint.read`.

    Raises:
        ValueError: no checkpoint, or one of another architecture.
    """
    model, load_from = build_model(source)
    checkpoint = checkpoint or load_from
    if checkpoint is None and not isinstance(source, nn.Module):
        raise ValueError(f"teacher {name!r} has no weights: give checkpoint=..., or 'random' for an untrained one")
    if checkpoint not in (None, "random"):
        load_weights(model, checkpoint, unsafe)
    return Teacher(name, model)


def renormalise(inputs: Any, samples: Iterable[Any] | None, student: nn.Module, teacher: nn.Module) -> Any:
    """Turn a batch that the student's preprocessor normalised into what the teacher's would have made of the images.

    With mean m and deviation s of each: `x_t = (x_s * s_s + m_s - m_t) / s_t`, after a swap of the colour channels
    where the two disagree on their order. Padding is then set to the teacher's own padding value. Equal preprocessing
    costs nothing, the batch is handed on as it is.

    Raises:
        TypeError: the two preprocess differently and at least one is none of mmengine's image preprocessors.
    """
    mine, its = _normalisation(student), _normalisation(teacher)
    if mine == its:
        return inputs
    if mine is None or its is None or not isinstance(inputs, Tensor):
        raise TypeError(
            f"cannot turn the input of {type(student).__name__} into that of {type(teacher).__name__}: "
            "only preprocessors of images with mean, std and channel order are understood"
        )
    shape = (-1, 1, 1)
    m_s, s_s, m_t, s_t = (
        torch.tensor(values, dtype=inputs.dtype, device=inputs.device).view(shape)
        for values in (mine["mean"], mine["std"], its["mean"], its["std"])
    )
    if mine["swapped"] != its["swapped"]:
        inputs, m_s, s_s = inputs.flip(1), m_s.flip(0), s_s.flip(0)
    renormalised = inputs * (s_s / s_t) + (m_s - m_t) / s_t
    for image, sample in zip(renormalised, samples or ()):
        height, width = sample.metainfo.get("img_shape", image.shape[-2:])[:2]
        image[:, height:] = its["padding"]
        image[:, :, width:] = its["padding"]
    return renormalised


def _normalisation(preprocessor: nn.Module) -> dict[str, Any] | None:
    if not hasattr(preprocessor, "_enable_normalize"):
        return None
    on = preprocessor._enable_normalize
    return {
        "mean": preprocessor.mean.flatten().tolist() if on else [0.0],  # type: ignore[operator]
        "std": preprocessor.std.flatten().tolist() if on else [1.0],  # type: ignore[operator]
        "swapped": preprocessor._channel_conversion,
        "padding": getattr(preprocessor, "pad_val", getattr(preprocessor, "pad_value", 0)),
    }
