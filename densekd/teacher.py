"""Teachers: a frozen model, a moving average of the student, or a peer that is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from densekd.sensors.batches import Sensors, has_sensors, reads_truth
from densekd.sensors.normalisation import Renormalise
from densekd.taps.queries import called
from densekd.taps.reader import Taps
from kdlosses.moved import moved_name
from kdlosses.moving_average import move

Outputs = Taps | Mapping[str, list[Tensor]]
"""What a teacher yields: by tap the tensors of its levels."""


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
        self.model = without_sync(model).requires_grad_(False).eval()

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

    def move(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> None:
        """Apply what moves the student to another device or precision."""
        self.model._apply(fn, recurse)

    @torch.no_grad()
    def run(self, inputs: Any, samples: Any, specs: Iterable[str]) -> Outputs:
        """Run on the student's preprocessed batch, no further than the last of the taps `specs`."""
        yields = {spec: self._yields[spec] for spec in specs}
        with Taps(self.model, yields, stop_after=yields) as taps, called(self.model, samples):
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

    def update(self, student: nn.Module) -> None:
        """Update the average with the student's weights."""
        move(self.model, student, self.momentum if self.steps else 0.0)
        self.steps += 1


class Past(MovingAverage):
    """The student as it was at some point of the training: a frozen copy, which a policy takes anew.

    Until then it is the student as it starts, see `densekd.policies.Snapshots`.

    Args:
        name: its name in messages.
        model: a copy of the student.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__(name, model)

    def update(self, student: nn.Module) -> None:
        """Copy the student before the first step, and nothing later."""
        if not self.steps:
            self.take(student)

    def take(self, student: nn.Module) -> None:
        """Copy the student."""
        move(self.model, student, 0.0)
        self.steps += 1


OF_THE_STUDENT: dict[str, type[MovingAverage]] = {"ema": MovingAverage, "past": Past}
"""Teachers that are made of the student, by what is written for them."""


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


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of tensors of any dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def without_sync(model: nn.Module) -> nn.Module:
    """Replace synchronised batch normalisation, torch's and mmcv's, by the plain one, which a CPU runs as well.

    >>> without_sync(nn.Sequential(nn.SyncBatchNorm(3)))(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """
    if type(model).__name__ == "SyncBatchNorm":
        sync: Any = model
        plain: Any = _BatchNorm(sync.num_features, sync.eps, sync.momentum, sync.affine, sync.track_running_stats)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(plain, name, getattr(sync, name))
        return plain.train(sync.training)
    for name, part in model.named_children():
        fresh = without_sync(part)
        if fresh is not part:
            setattr(model, name, fresh)
    return model


_MOVED = {name: f"densekd.mmlab.building.{name}" for name in ("build_model", "build_teacher", "start_from", "Source")}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
