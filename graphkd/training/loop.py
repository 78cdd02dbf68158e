"""The training loop of teachers, students and all recipes."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphkd.spec import real, whole
from graphkd.training.parallel import backward, processes, share
from graphkd.training.watch import Callback, Event

T = TypeVar("T")

Loss = Callable[[Tensor | slice], Tensor]
"""From the nodes of a step, ids or `slice(None)` for all, to a scalar."""

Score = tuple[float, float]
"""Accuracy, or another score, and minus the mean loss on the labels to break ties between equal ones."""

Evaluation = tuple[Score | None, float | None]
"""The score on the validation nodes, and the accuracy on monitored nodes, which is recorded and of no influence."""


@dataclass(frozen=True)
class Schedule:
    """Training schedule: epochs, learning rate and stopping. NumPy numbers become Python numbers.

    Attributes:
        lr: learning rate of Adam.
        weight_decay: of Adam.
        epochs: at most.
        patience: stop after this many epochs without a better validation score; infinite never does.
        batch_size: nodes in a step; None takes all at once.

    Raises:
        ValueError: a number is out of range; names the setting.

    >>> Schedule(lr=-0.1)
    Traceback (most recent call last):
    ValueError: lr is a finite number from 0, got -0.1
    """

    lr: float = 0.01
    weight_decay: float = 5e-4
    epochs: int = 500
    patience: int | float = 50
    batch_size: int | None = None

    def __post_init__(self) -> None:
        patience, batch_size = self.patience, self.batch_size
        for name, value in (
            ("lr", real("lr", self.lr)),
            ("weight_decay", real("weight_decay", self.weight_decay)),
            ("epochs", whole("epochs", self.epochs)),
            ("patience", math.inf if patience == math.inf else whole("patience", patience)),
            ("batch_size", None if batch_size is None else whole("batch_size", batch_size, 1)),
        ):
            object.__setattr__(self, name, value)  # it is frozen


@dataclass
class Clock:
    """Progress of the training, for losses that change over time; the loop sets it before each step.

    Attributes:
        epoch: current epoch, from 0.
        progress: share of the steps of the longest possible training that are done, 0 to 1.
    """

    epoch: int = 0
    progress: float = 0.0


def each_epoch(clock: Clock, make: Callable[[], T]) -> Callable[[], T]:
    """Wrap `make` so that it is called once an epoch; other steps reuse its result.

    >>> clock, drawn = Clock(), iter("ab")
    >>> letter = each_epoch(clock, lambda: next(drawn))
    >>> (letter(), letter())
    ('a', 'a')
    >>> clock.epoch = 1
    >>> letter()
    'b'
    """
    kept: dict[int, T] = {}

    def current() -> T:
        if clock.epoch not in kept:
            kept.clear()
            kept[clock.epoch] = make()
        return kept[clock.epoch]

    return current


@dataclass
class History:
    """Record of a training run, besides the parameters.

    Attributes:
        epochs: number of epochs run.
        best_epoch: epoch, from 0, whose parameters were kept.
        score: its validation score, None without validation.
        oracle: best score that any epoch had on the monitored nodes: what selecting on them would have reported.
        seconds: wall-clock seconds of the training steps of each epoch, validation not counted.
        losses: mean loss of the steps of each epoch.
    """

    epochs: int = 0
    best_epoch: int = 0
    score: float | None = None
    oracle: float | None = None
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


_rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)


class Rehearsed(Exception):
    """Raised in a `rehearsal` when a training reaches its first step."""


@contextmanager
def rehearsal() -> Iterator[None]:
    """Make `train` stop after the loss of its first step, to raise errors early; nothing is learned.

    >>> layer = nn.Linear(1, 1)
    >>> with rehearsal():
    ...     train(layer, lambda nodes: layer(torch.ones(3, 1)).square().mean(), 3, schedule=Schedule())
    """
    token = _rehearsing.set(True)
    try:
        yield
    except Rehearsed:
        pass
    finally:
        _rehearsing.reset(token)


def rehearsed() -> None:
    """End a `rehearsal`, if this is one; before what takes long."""
    if _rehearsing.get():
        raise Rehearsed


def with_own(loss: Loss, network: nn.Module) -> Loss:
    """Add what a network charges itself for its last forward pass, `auxiliary_loss()`, where it has that.

    >>> with_own(lambda nodes: torch.ones(1), nn.Identity())(slice(None))
    tensor([1.])
    """
    auxiliary = getattr(network, "auxiliary_loss", None)
    return loss if auxiliary is None else lambda nodes: loss(nodes) + auxiliary()


def train(
    model: nn.Module,
    loss: Loss,
    nodes: int,
    *,
    schedule: Schedule,
    evaluate: Callable[[], Evaluation] | None = None,
    generator: torch.Generator | None = None,
    clock: Clock | None = None,
    callback: Callback | None = None,
    falling: bool = False,
) -> History:
    r"""Minimise `loss` over `model` and keep the parameters of the best validation epoch.

    A parameter with an attribute `pace` has the learning rate of the schedule times that number: it is in a group of
    its own in the one optimiser. In several processes, see `graphkd.training.parallel`.

    Args:
        model: trained in place, left in evaluation mode.
        loss: from the nodes of a step, ids or `slice(None)` for all, to a scalar.
        nodes: number of nodes in an epoch.
        schedule: see there.
        evaluate: called after each epoch. Its validation score chooses the epoch, the earliest of equals; without one
            the last is kept.
        generator: draws the batches.
        clock: set to the progress of the training.
        callback: called after each epoch, once its validation is done.
        falling: take AdamW in place of Adam, and multiply the learning rate by $(1 + \cos(\pi e / E)) / 2$ in epoch e
            of E.

    Raises:
        FloatingPointError: the loss is not finite; names the epoch.
    """
    kind = torch.optim.AdamW if falling else torch.optim.Adam
    optimiser = kind(_groups(model, schedule.lr), lr=schedule.lr, weight_decay=schedule.weight_decay)
    rates = [group["lr"] for group in optimiser.param_groups]
    if _rehearsing.get():
        model.train()
        loss(next(_batches(nodes, schedule.batch_size, generator)))
        rehearsed()
    history, best, kept = History(), (-math.inf, -math.inf), None
    clock, step = clock or Clock(), 0
    steps = schedule.epochs * -(-nodes // min(schedule.batch_size or nodes, nodes)) if nodes else 1
    share([*model.parameters(), *model.buffers()])
    if processes()[0]:
        torch.manual_seed(torch.initial_seed() + processes()[0])  # the parts of a batch drop different units
    for epoch in range(schedule.epochs):
        model.train()
        start = time.perf_counter()
        clock.epoch = epoch
        if falling:
            for group, rate in zip(optimiser.param_groups, rates):
                group["lr"] = rate * (1 + math.cos(math.pi * epoch / schedule.epochs)) / 2
        values = []
        for batch in _batches(nodes, schedule.batch_size, generator):
            clock.progress = step / steps
            step += 1
            optimiser.zero_grad()
            value = backward(loss, batch, nodes, model).item()
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} in epoch {epoch}; lower lr ({schedule.lr})?")
            values.append(value)
            optimiser.step()
        share(list(model.buffers()))
        history.seconds.append(time.perf_counter() - start)
        history.losses.append(statistics.fmean(values) if values else 0.0)
        history.epochs = epoch + 1
        model.eval()
        found, monitored = evaluate() if evaluate is not None else (None, None)
        if callback is not None:
            told = None if found is None else found[0]
            callback(Event("", epoch, schedule.epochs, history.losses[-1], told, history.seconds[-1]))
        if monitored is not None:
            history.oracle = monitored if history.oracle is None else max(history.oracle, monitored)
        if found is None:
            history.best_epoch = epoch
        elif found > best:
            best, kept, history.best_epoch = found, copy.deepcopy(model.state_dict()), epoch
        elif epoch - history.best_epoch >= schedule.patience:
            break
    if kept is not None:
        model.load_state_dict(kept)
        history.score = best[0]
    return history


def _groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """The parameters by their `pace`, with the learning rate of each."""
    found: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        found.setdefault(getattr(parameter, "pace", 1.0), []).append(parameter)
    return [dict(params=parameters, lr=pace * lr) for pace, parameters in (found or {1.0: []}).items()]


def score(logits: Tensor, labels: Tensor) -> Score:
    """Accuracy and negative cross-entropy, in the order of `Score`.

    >>> score(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))[0]
    0.5
    """
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return accuracy, -torch.nn.functional.cross_entropy(logits, labels).item()


def _batches(nodes: int, size: int | None, generator: torch.Generator | None) -> Iterator[Tensor | slice]:
    if size is None or size >= nodes:
        yield slice(None)
    else:
        order = torch.randperm(nodes, generator=generator)
        share([order])
        yield from order.split(size)
