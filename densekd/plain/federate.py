"""Clients with images of their own learn in rounds: models on maps for the loop of `kdlosses.rounds`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from densekd.plain.batches import Data, first, inputs, labels_of, loader, moved
from densekd.plain.distillation import Distillation, check_student
from densekd.plain.scores import check_split, logits_of, measured, task_loss
from densekd.taps.reader import Taps, at_rest
from kdlosses.options import check_known
from kdlosses.resized import labels_at, resized
from kdlosses.rounds import Federation, Local, Message, Traffic, check, method_of, run, seed_of

PARTS = ("train", "val", "test")


def federate(
    student: nn.Module | Callable[[], nn.Module],
    method: str | Mapping[str, Any] | Local = "knfu",
    *,
    clients: Sequence[Mapping[str, Data]],
    transfer: Data | None = None,
    layers: Sequence[str] = (),
    distills: Sequence[Mapping[str, Any]] = ({"loss": "kl"},),
    rounds: int = 10,
    epochs: int = 1,
    batch_size: int = 8,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    pull: float = 1.0,
    seed: int = 0,
    ignore_index: int = 255,
    device: str | torch.device | None = None,
    traffic: Traffic | None = None,
    log: Callable[[str], None] | None = None,
) -> Federation:
    """Train a model at each of several clients with images of their own, in rounds, in one process.

    In each round each client learns, from its labels and, after the first round, from what it was told; then it says
    what the method asks for. Each client's round is chosen by the mIoU (of images with one label the accuracy) on its
    own validation data, and that on its own test data is reported. AdamW, at a constant learning rate, begins anew in
    each round.

    Where predictions are exchanged a step takes a batch of the client's own images and one of the shared images, for
    which the entries of `distills` compare its logits with those that it was told. In `fedd2s` these are the client's
    own training images, once more and in order, with what it was told of each position of the layer; of images with one
    label a layer's output is its mean over the positions.

    Args:
        student: the model, which is not changed, or a function that makes one, called under the seed.
        method: a name of `kdlosses.rounds.METHODS`, `local`, `fedavg`, `average`, `knfu` or `fedd2s`, as
            `dict(type=name, **options)`, or a `kdlosses.rounds.Local` of one's own.
        clients: for each its data sets `train`, `val` and `test`, as of `fit`.
        transfer: images that all clients have, as pairs or dicts like the others; their labels are not read;
            of a `DataLoader` in the order of its data set.
        layers: paths of modules whose outputs `fedd2s` sends, from the shallowest to the one that yields the logits.
        distills: entries between the logits and those that were told, without taps, see `densekd.Distillation`.
        rounds: how many.
        epochs: passes over its own training data in a round.
        batch_size: of data sets.
        lr: learning rate.
        weight_decay: of AdamW.
        pull: weight of what a client was told; its labels have 1.
        seed: of the weights, which are the same at all clients, and of the order of the data.
        ignore_index: label that does not count.
        device: the GPU if there is one, if not given.
        traffic: counts bytes.
        log: takes a line for each round.

    Raises:
        ValueError: no client, a client without a data set, no `transfer` or `layers` where the method needs it, images
            that change when they are read again, a number out of range; before anything is trained.
        TypeError: the method has no such option, a client has something else than its data sets, or one is none.
        KeyError: unknown method; names the nearest.
        FloatingPointError: a client's loss is no longer finite.

    Example:
        >>> data = [(torch.full((3, 8, 8), k / 3.0), torch.full((8, 8), k)) for k in range(3)]
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
        >>> each = [dict(train=data, val=data, test=data)] * 2
        >>> result = federate(net, "knfu", clients=each, transfer=data, rounds=2, device="cpu")
        >>> result.traffic.up[0, 1] == 3 * 3 * 8 * 8 * 4  # images, classes, height, width, bytes
        True
    """
    server = method_of(method)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if isinstance(clients, str | Mapping) or not isinstance(clients, Sequence):
        raise TypeError(f"clients is a list of dicts with train, val and test, got a {type(clients).__name__}")
    if isinstance(layers, str):
        raise TypeError(f"layers is a list of paths of modules, got {layers!r}")
    for place, each in enumerate(clients):
        missing = [part for part in PARTS if part not in each]
        if missing:
            raise ValueError(f"client {place} has no data set {missing[0]!r}: give it train, val and test")
        check_known(f"client {place}", each, PARTS)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be an integer of at least 1, got {epochs!r}")
    if isinstance(pull, bool) or not isinstance(pull, int | float) or not 0 <= pull < math.inf:
        raise ValueError(f"pull is the weight of what a client was told, at least 0, got {pull!r}")
    shared = None if transfer is None else loader(transfer, batch_size)
    if shared is not None and not in_order(shared):
        raise ValueError(
            "transfer is a DataLoader with an order of its own, but all clients need one: give the data set"
        )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        made = []
        for place, each in enumerate(clients):
            torch.manual_seed(seed)
            model = copy.deepcopy(student) if isinstance(student, nn.Module) else student()
            check_student(model)
            options = dict(lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, pull=pull)
            made.append(MapClient(model.to(where), each, shared, layers, distills, options, seed, place, ignore_index))
        check(made, server, rounds)
        if server.asks == "answers" and transfer is None:
            raise ValueError(f"{type(server).__name__} exchanges predictions of shared images: give transfer=...")
        if server.asks == "answers" and shared is not None:
            if isinstance(first(shared), Tensor):
                raise TypeError("transfer is pairs or dicts like the data of a client: (image, label), of any label")
            check_same_again("transfer", shared, server)
        if server.asks == "outputs" and not layers:
            raise ValueError(f"{type(server).__name__} reads layers: give layers=[...], the last yields the logits")
        for place, client in enumerate(made if server.asks == "outputs" else []):
            if not in_order(client.plain):
                raise ValueError(
                    f"client {place}: train is a DataLoader with an order of its own, and {type(server).__name__} "
                    "tells something of each image: give the data set"
                )
            check_same_again(f"client {place}: train", client.plain, server)
        if server.asks in ("answers", "outputs"):
            for client in made:
                client.rehearse(client.shared if server.asks == "answers" else client.plain)
        return run(made, server, rounds, traffic, log)


def in_order(batches: DataLoader) -> bool:
    """Whether batches come in the order of the data, each time."""
    return isinstance(getattr(batches.batch_sampler, "sampler", None), SequentialSampler)


def check_same_again(what: str, batches: DataLoader, server: Local) -> None:
    """Raise ValueError where the first image is another one when it is read again."""
    if not alike(batches.dataset[0], batches.dataset[0]):
        raise ValueError(
            f"{what} yields other images when it is read again, and {type(server).__name__} tells something of each: "
            "leave random augmentation out"
        )


def alike(one: Any, other: Any) -> bool:
    """Whether two samples are the same."""
    if isinstance(one, Mapping):
        return all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return all(map(alike, one, other))
    try:
        return bool(torch.equal(torch.as_tensor(one), torch.as_tensor(other)))
    except (TypeError, ValueError, RuntimeError):  # a picture or a name, which a collate_fn reads
        return bool(one == other)


class Told(nn.Module):
    """A teacher that repeats what its client was told of images; `now` is that of the batch."""

    now: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Identity()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.logits(self.now)


class MapClient:
    """A client of `kdlosses.rounds` with images; see `federate` for what it is given."""

    def __init__(
        self,
        model: nn.Module,
        data: Mapping[str, Data],
        shared: DataLoader | None,
        layers: Sequence[str],
        distills: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        seed: int,
        place: int,
        ignore_index: int,
    ) -> None:
        self.model, self.shared, self.layers, self.distills = model, shared, list(layers), distills
        self.options, self.seed, self.place, self.ignore_index = options, seed, place, ignore_index
        self.where = next(model.parameters()).device
        self.data, size = data["train"], options["batch_size"]
        self.plain, self.valid, self.tested = (loader(data[part], size) for part in PARTS)
        with torch.no_grad(), at_rest(model), Taps(model, self.layers) as taps:
            args, kwargs = inputs(moved(first(self.plain), self.where))
            logits = logits_of(model(*args, **kwargs))
            self.classes = logits.shape[1]
            if self.layers and [each.shape[1] for each in taps[self.layers[-1]]] != [self.classes]:
                raise ValueError(f"the last of layers, {self.layers[-1]!r}, must yield the {self.classes} logits")
            for part, each in zip(PARTS, (self.plain, self.valid, self.tested)):
                check_split(f"client {place}, {part}", logits, each, ignore_index)
        self.labelled, self.depth = len(self.plain.dataset), len(self.layers)  # type: ignore[arg-type]

    def learn(self, turn: int, told: Message | None) -> None:
        options, drawn = self.options, seed_of(self.seed, self.place, turn)
        torch.manual_seed(drawn)
        data = loader(self.data, options["batch_size"], torch.Generator().manual_seed(drawn))
        answers = None if told is None else self._answers(told)
        learner: nn.Module = self.model if answers is None else self._taught(next(answers))
        optimiser = torch.optim.AdamW(learner.parameters(), lr=options["lr"], weight_decay=options["weight_decay"])
        steps = options["epochs"] * len(data)
        learner.train()
        for step in range(steps):
            if step % len(data) == 0:
                batches = iter(data)
            batch = moved(next(batches), self.where)
            (args, kwargs), labels = inputs(batch), labels_of(batch)
            value = task_loss(self.model(*args, **kwargs), labels, self.ignore_index)
            if answers is not None and isinstance(learner, Distillation):
                says, args, kwargs = next(answers)
                learner.teachers["teacher"].model.now = says
                _, losses = learner(*args, context=dict(progress=step / steps), **kwargs)
                value = value + options["pull"] * sum(losses.values())
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"the loss of client {self.place} is {value.item()} in round {turn + 1}: lower lr, or see its data"
                )
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        self.model.eval()

    def rehearse(self, images: DataLoader | None) -> None:
        """Raise what the first step from what is told of `images` would raise."""
        assert images is not None
        args, kwargs = inputs(moved(first(images), self.where))
        spare = copy.copy(self)
        spare.model = copy.deepcopy(self.model)
        with torch.no_grad(), at_rest(spare.model):
            says = logits_of(spare.model(*args, **kwargs))
        spare._taught((says, args, kwargs)).train()(*args, context=dict(progress=0.0), **kwargs)

    def _taught(self, batch: tuple[Tensor, Any, Any]) -> Distillation:
        teacher = Told()
        teacher.now, args, kwargs = batch
        entries = [
            {"student": ":logits" if hasattr(self.model, "config") else ":", "teacher": "logits", **each}
            for each in self.distills
        ]
        distillation = Distillation(self.model, teacher, entries, ignore_index=self.ignore_index, classes=self.classes)
        distillation.connect(*args, **kwargs)
        return distillation

    def _answers(self, told: Message) -> Iterator[tuple[Tensor, Any, Any]]:
        """Batches of the shared images, or of its own, over and over, each with what was told of it."""
        images = self.plain if told.what == "own" else self.shared
        assert images is not None
        while True:
            start = 0
            for batch in images:
                args, kwargs = inputs(moved(batch, self.where))
                count = next(iter((*args, *kwargs.values()))).shape[0]
                yield told.tensors["logits"][start : start + count], args, kwargs
                start += count

    @torch.no_grad()
    def say(self, what: str, layers: int) -> Message:
        if what == "weights":
            return Message(what, copy.deepcopy(self.model.state_dict()))
        self.model.eval()
        if what == "answers":
            assert self.shared is not None
            each = [inputs(moved(batch, self.where)) for batch in self.shared]
            return Message(
                what, {"logits": torch.cat([logits_of(self.model(*args, **kwargs)) for args, kwargs in each])}
            )
        name, found = self.layers[layers - 1], []
        for batch in self.plain:
            batch = moved(batch, self.where)
            (args, kwargs), labels = inputs(batch), labels_of(batch)
            with Taps(self.model, [name]) as taps:
                logits = logits_of(self.model(*args, **kwargs))
            level = taps[name][0]
            if labels.ndim == 1:  # one label an image
                level = level.flatten(2).mean(2) if level.ndim > 2 else level
            else:
                logits = resized("fedd2s", "logits", logits, level)
            at = labels_at(labels, level.shape[2:])
            found.append((level, at.masked_fill(at == self.ignore_index, -1), logits))
        outputs, at, said = (torch.cat(each) for each in zip(*found))
        return Message(what, dict(layer=torch.tensor(layers - 1), outputs=outputs, labels=at, logits=said))

    def val(self) -> tuple[float, ...]:
        return (self._scored(self.valid),)

    def test(self) -> float:
        return self._scored(self.tested)

    def _scored(self, batches: DataLoader) -> float:
        return next(iter(measured(self.model.eval(), batches, self.ignore_index).values()))
