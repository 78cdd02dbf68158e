"""Where a training runs, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphkd.training.parallel import processes


@dataclass(frozen=True)
class Event:
    """What a callback is told after each epoch.

    Attributes:
        role: who is trained: `teacher`, `control` or `student`.
        epoch: from 0.
        epochs: the number of epochs, at most.
        loss: mean loss of the steps of the epoch.
        score: validation accuracy, None without validation.
        seconds: wall-clock seconds of the steps.
    """

    role: str
    epoch: int
    epochs: int
    loss: float
    score: float | None
    seconds: float


CPU = torch.device("cpu")
Callback = Callable[[Event], object]


@dataclass(frozen=True)
class Run:
    """How a network is trained.

    Attributes:
        device: where.
        amp: its products in bfloat16.
        progress: show a bar of the epochs.
        callback: called after each epoch; what it raises ends the training.
    """

    device: torch.device = CPU
    amp: bool = False
    progress: bool = False
    callback: Callback | None = None

    @classmethod
    def of(cls, device: Any = None, amp: Any = False, progress: Any = False, callback: Any = None) -> Run:
        """Check the arguments of this name; ValueError or TypeError if one is none.

        >>> Run.of("cpu", callback=print).device
        device(type='cpu')
        >>> Run.of("gpu")
        Traceback (most recent call last):
        ValueError: device is 'cpu', 'cuda', 'cuda:1', ..., or 'auto' for CUDA where there is one; got 'gpu'
        """
        for name, value in (("amp", amp), ("progress", progress)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} is True or False, got {value!r}")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is a function of an epoch's Event, got {callback!r}")
        return cls(checked_device(device), amp, progress, callback)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass in training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    @contextmanager
    def watched(self, role: str) -> Iterator[Callback | None]:
        """A callback for the training loop, which tells the user's and moves the bar; None where nobody looks."""
        if self.callback is None and not self.progress:
            yield None
            return
        from tqdm import tqdm

        shown = self.progress and processes()[0] == 0
        bar = tqdm(desc=role, unit="epoch", disable=not shown)

        def tell(event: Event) -> None:
            if event.epoch == 0:  # again, of a method that trains several networks
                bar.total = bar.n + event.epochs
            bar.update()
            if event.score is not None:
                bar.set_postfix(val=f"{event.score:.3f}", refresh=False)
            if self.callback is not None:
                self.callback(replace(event, role=role))

        try:
            yield tell
        finally:
            bar.close()


HERE = Run()
"""On the CPU, in float32, with nobody told."""


def checked_device(device: Any) -> torch.device:
    """Return a device that tensors can be on: None is the CPU, `auto` CUDA where there is one.

    Raises:
        ValueError: there is no such device, or none here.
    """
    if device is None or (isinstance(device, str) and device == "auto"):
        return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
    known = "device is 'cpu', 'cuda', 'cuda:1', ..., or 'auto' for CUDA where there is one"
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"{known}; got {device!r}") from None
    if found.type == "meta":
        raise ValueError(f"{known}; 'meta' holds no values")
    try:
        torch.zeros(1, device=found).add_(1)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"device {str(found)!r} cannot be used here ({why}); choose another, or 'cpu'") from None
    return found
