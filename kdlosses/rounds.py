"""Federated learning in one process: clients learn in rounds, and a server makes of what they say what they are told.

All that passes between a client and the server is a `Message`, which goes through a `Traffic` that counts its bytes.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdlosses.experts import mixture
from kdlosses.options import nearest
from kdlosses.policy.knfu import KnFu as Fusion
from kdlosses.registry import build
from kdlosses.text_table import table


@dataclass(frozen=True)
class Message:
    """What a client says, or is told.

    Attributes:
        what: `answers`: logits `(T, C, *)` on the shared set. `weights`: the state of a model. `outputs`: of the
            client's own training data the `outputs` `(N, d, *)` of a layer, its number `layer` `()`, 0 the shallowest,
            `labels` `(N, *)` at its size, -1 where there is none, and its `logits` `(N, C, *)`, likewise. `own`: logits
            `(N, C, *)` on these data, in the same order.
        tensors: by name.

    >>> Message("answers", {"logits": torch.zeros(5, 3)}).bytes
    60
    """

    what: str
    tensors: Mapping[str, Tensor]

    @property
    def bytes(self) -> int:
        """Size of the tensors as they are, without a head and without compression."""
        return sum(each.numel() * each.element_size() for each in self.tensors.values())


@dataclass
class Traffic:
    """Count the bytes of each round and client, `up` to the server and `down` from it.

    >>> traffic = Traffic()
    >>> said = traffic.pass_on("up", 0, 1, Message("answers", {"logits": torch.zeros(5, 3)}))
    >>> traffic.up
    {(0, 1): 60}
    """

    up: dict[tuple[int, int], int] = field(default_factory=dict)
    down: dict[tuple[int, int], int] = field(default_factory=dict)

    def pass_on(self, way: str, turn: int, client: int, message: Message) -> Message:
        """Count a message of a round, numbered from 0, and hand it on."""
        counted = self.up if way == "up" else self.down
        counted[turn, client] = counted.get((turn, client), 0) + message.bytes
        return message


class Client(Protocol):
    """A model with data of its own.

    Attributes:
        labelled: number of positions that it learns from, its weight in a mean of models.
        depth: how many of its layers can be compared with those of others, the logits included.
    """

    labelled: int
    depth: int

    @property
    def model(self) -> nn.Module:
        """Its network."""
        ...

    def learn(self, turn: int, told: Message | None) -> None:
        """Train for one round, from its own labels and from what it was told."""

    def say(self, what: str, layers: int) -> Message:
        """What the server asks for; `outputs` are those of the last of so many layers, counted from the shallowest."""
        ...

    def val(self) -> tuple[float, ...]:
        """Score on its own validation data, the larger the better; what follows it settles ties."""
        ...

    def test(self) -> float:
        """Score on its own test data."""
        ...


@dataclass
class Record:
    """One client after all rounds.

    Attributes:
        val: the best score on its validation data, of equal ones the earliest.
        test: the score of the same model on its test data.
        turn: the round of that model, from 0.
        vals: validation score after each round.
    """

    val: float = -math.inf
    test: float = math.nan
    turn: int = 0
    vals: list[float] = field(default_factory=list)


@dataclass
class Federation:
    """What the `federate` of each sibling returns; `print(result)` shows a table of the clients.

    Attributes:
        clients: in order, each with its `model`.
        records: of each client.
        traffic: bytes by round and client.
    """

    clients: Sequence[Client]
    records: Sequence[Record]
    traffic: Traffic

    @property
    def metrics(self) -> dict[str, float]:
        """Test scores: `mean` over the clients, sample standard `deviation`, `worst`; `bytes up` and `bytes down`.

        Each client counts the same, however much data it has.
        """
        found = [record.test for record in self.records]
        return {
            "mean": statistics.mean(found),
            "deviation": statistics.stdev(found) if len(found) > 1 else 0.0,
            "worst": min(found),
            "bytes up": sum(self.traffic.up.values()),
            "bytes down": sum(self.traffic.down.values()),
        }

    def __repr__(self) -> str:
        rows: dict[str, dict[str, float]] = {}
        for place, (client, record) in enumerate(zip(self.clients, self.records)):
            ways = {"kB up": self.traffic.up, "kB down": self.traffic.down}
            rows[f"client {place}"] = {
                "labelled": client.labelled,
                "val": record.val,
                "test": record.test,
                "round": record.turn + 1,
                **{name: sum(n for (_, who), n in way.items() if who == place) / 1000 for name, way in ways.items()},
            }
        return table(rows)


class Local:
    """Each client trains alone: the control. No byte is sent."""

    asks: str | None = None
    """What it asks of the clients, see `Message`; None is nothing."""

    def begin(self) -> None:
        """Forget what was learned in an earlier run."""

    def layers(self, turn: int, turns: int, depth: int) -> int:
        """How many layers take part in a round, counted from the shallowest."""
        return depth

    def fuse(self, said: Sequence[Message], sizes: Sequence[int]) -> list[Message]:
        """What each client is told after a round.

        Args:
            said: by all clients, in order.
            sizes: `Client.labelled` of each.
        """
        raise NotImplementedError


class FedAvg(Local):
    r"""Mean of the clients' weights: one model for all. $\theta = \sum_k \frac{n_k}{\sum_j n_j} \theta_k$.

    Paper: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017.
    """

    asks = "weights"

    def fuse(self, said: Sequence[Message], sizes: Sequence[int]) -> list[Message]:
        share = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        merged = {}
        for name, first in said[0].tensors.items():
            each = torch.stack([message.tensors[name] for message in said]).double()
            merged[name] = torch.tensordot(share, each, 1).to(first.dtype)
        return [Message("weights", merged)] * len(said)


class Average(Local):
    r"""Mean of all clients' predictions on the shared set, the same for all: $\frac{1}{K} \sum_k p_k$.

    Paper: Li and Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", 2019, where the mean is one of
    logits.
    """

    asks = "answers"

    def fuse(self, said: Sequence[Message], sizes: Sequence[int]) -> list[Message]:
        fused = mixture(torch.stack([message.tensors["logits"] for message in said], 1))
        return [Message("answers", {"logits": fused})] * len(said)


class KnFu(Local):
    r"""A fused teacher for each client, from those whose predictions on the shared set are like its own.

    $$ t_k = \log \sum_j a_{kj} p_j $$

    with the weights of the policy `knfu`, whose local model is client k. Both are our own form.

    Args:
        nearest: how many other clients are heard; all if not given.
        temperature: of the weights; towards 0 each client is alone. The surer the clients, the farther they are apart.

    Paper: Seyedmohammadi et al., "KnFu: Effective Knowledge Fusion", 2024.
    """

    asks = "answers"

    def __init__(self, nearest: int | None = None, temperature: float = 0.5) -> None:
        self.options: dict[str, Any] = dict(nearest=nearest, temperature=temperature)
        build(dict(type="knfu", **self.options))  # which checks them

    def weights(self, each: Tensor) -> Tensor:
        """How much each client `(K, K)`, a row, hears each other one, from the logits `(T, K, C, *)` of all."""
        rows = [Fusion(local=client, **self.options).weights(each) for client in range(each.shape[1])]
        return torch.stack(rows)

    def fuse(self, said: Sequence[Message], sizes: Sequence[int]) -> list[Message]:
        each = torch.stack([message.tensors["logits"] for message in said], 1)
        return [Message("answers", {"logits": mixture(each, row)}) for row in self.weights(each)]


class FedD2S(Local):
    r"""A head at the server tells clients soft labels of their own data, without a shared set; deep layers leave first.

    $$ L = \mathrm{CE}(h_l(z_i), y_i) + \mathrm{KL}(p_i \,\|\, h_l(z_i)), \qquad
       l = \Big\lceil D \, (1 - r / R) \Big\rceil $$

    Of the D layers of the clients, from the first hidden one to the logits, in round r of R they send the outputs
    $z_i$ of layer l, with their labels $y_i$ and their predictions $p_i$: in the first round the logits, towards the
    end the shallowest layer. Nothing is sent in the last round, so that the shallowest has its turn in $R \ge 2 D$
    rounds. The server's head $h_l$, two linear maps with ReLU between them, learns from those of all
    clients. Its predictions go back, to each client those of its own data, which it learns by its own loss between
    teacher and student. So knowledge goes both ways, by labels and by divergence, and no input leaves a client. All
    clients begin with the same weights, so that their layers have the same axes.

    Sizes and steps of the head are ours, and so is the number of rounds that a layer stays.

    Args:
        steps: of the head in a round, by Adam.
        lr: its learning rate.
        wide: its hidden width.
        batch: positions of a step, drawn at random.
        divergence: weight of KL beside CE.
        seed: of its weights and of the positions.

    Raises:
        ValueError: a number is out of range.

    Paper: Atapour et al., "FedD2S: Personalized Data-Free Federated Knowledge Distillation", 2024.
    """

    asks = "outputs"

    def __init__(
        self,
        steps: int = 300,
        lr: float = 0.01,
        wide: int = 64,
        batch: int = 1024,
        divergence: float = 1.0,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("steps", steps, 1), ("wide", wide, 1), ("batch", batch, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"FedD2S: {name} is a whole number from {least}, got {value!r}")
        for name, number, open_end in (("lr", lr, True), ("divergence", divergence, False)):
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
                raise ValueError(f"FedD2S: {name} is a number of at least 0, got {number!r}")
            if open_end and number == 0:
                raise ValueError(f"FedD2S: {name} is above 0, got 0")
        self.steps, self.lr, self.wide, self.batch = steps, lr, wide, batch
        self.divergence, self.seed = divergence, seed
        self.begin()

    def begin(self) -> None:
        self.heads: dict[int, nn.Module] = {}
        self.draw = torch.Generator().manual_seed(self.seed)

    def layers(self, turn: int, turns: int, depth: int) -> int:
        return -(-depth * (turns - turn) // turns)

    def fuse(self, said: Sequence[Message], sizes: Sequence[int]) -> list[Message]:
        outputs, logits = (
            torch.cat([message.tensors[name].movedim(1, -1).flatten(0, -2) for message in said])
            for name in ("outputs", "logits")
        )
        labels = torch.cat([message.tensors["labels"].flatten() for message in said])
        width, classes = outputs.shape[1], logits.shape[1]
        layer = int(said[0].tensors["layer"])
        told = (labels >= 0).nonzero().flatten().cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            fresh = nn.Sequential(nn.Linear(width, self.wide), nn.ReLU(), nn.Linear(self.wide, classes))
        head = self.heads.setdefault(layer, fresh.to(outputs))
        optimiser = torch.optim.Adam(head.parameters(), lr=self.lr)
        divergence = build("kl")
        with torch.enable_grad():
            for _ in range(self.steps if len(told) else 0):
                some = told[torch.randint(len(told), (min(self.batch, len(told)),), generator=self.draw)]
                guess = head(outputs[some])
                loss = nn.functional.cross_entropy(guess, labels[some])
                loss = loss + self.divergence * divergence(guess, logits[some])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            each = [head(message.tensors["outputs"].movedim(1, -1)).movedim(-1, 1) for message in said]
        return [Message("own", {"logits": logits}) for logits in each]


METHODS: dict[str, Callable[..., Local]] = {
    "local": Local,
    "fedavg": FedAvg,
    "average": Average,
    "knfu": KnFu,
    "fedd2s": FedD2S,
}
"""What the server makes of what clients say, by name."""


def method_of(spec: str | Mapping[str, Any] | Local) -> Local:
    """Build a method of `METHODS` by its name, or of a dict with the name as `type` and options; one's own stays.

    Raises:
        KeyError: there is none of that name; names the nearest.
        TypeError: it has no such option.
        ValueError: an option is out of range.

    >>> method_of("fedavgg")
    Traceback (most recent call last):
    KeyError: "no federated method is called 'fedavgg'; did you mean 'fedavg'?"
    """
    if isinstance(spec, Local):
        return spec
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    name = options.pop("type", None)
    if name not in METHODS:
        raise KeyError(f"no federated method is called {name!r}; {nearest(str(name), list(METHODS))}")
    try:
        return METHODS[name](**options)
    except TypeError as error:
        raise TypeError(f"federated method {name!r}: {error}") from error


def seed_of(seed: int, client: int, turn: int) -> int:
    """The seed of what a client draws in a round."""
    return seed + 1009 * client + 100_003 * turn


def check(clients: Sequence[Client], method: Local, turns: int) -> None:
    """Raise ValueError for what can be found wrong with clients and rounds before anything is trained."""
    if not clients:
        raise ValueError("clients is how many share the data, at least 1, got 0")
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
        raise ValueError(f"rounds is a whole number from 1, got {turns!r}")
    if method.asks in ("weights", "outputs"):
        shapes = [{name: each.shape for name, each in client.model.state_dict().items()} for client in clients]
        unlike = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
        if unlike is not None:
            raise ValueError(
                f"{type(method).__name__} compares {method.asks} and needs the same model at each client; that of "
                f"client {unlike} is another than that of client 0: choose knfu or average"
            )


def run(
    clients: Sequence[Client],
    method: Local,
    turns: int,
    traffic: Traffic | None = None,
    log: Callable[[str], None] | None = None,
) -> Federation:
    """Let clients learn in rounds: learn, say, be told. Each ends with its best model by its own validation data.

    Of `weights` a client is scored after it has taken those that it was told, of all others after it has learned. What
    it is told in a round it learns from in the next.

    Args:
        clients: trained in place.
        method: what the server does, see `method_of`.
        turns: number of rounds.
        traffic: counts bytes.
        log: takes a line for each round.

    Raises:
        ValueError: see `check`.
    """
    check(clients, method, turns)
    method.begin()
    traffic = Traffic() if traffic is None else traffic
    records = [Record() for _ in clients]
    best: list[tuple[float, ...]] = [() for _ in clients]
    kept: list[dict[str, Tensor]] = [{} for _ in clients]
    told: list[Message | None] = [None for _ in clients]
    for turn in range(turns):
        for client, message in zip(clients, told):
            client.learn(turn, message)
        if method.asks == "weights" or (method.asks and turn < turns - 1):  # nobody would learn from the last ones
            said = [
                traffic.pass_on("up", turn, place, client.say(method.asks, method.layers(turn, turns, client.depth)))
                for place, client in enumerate(clients)
            ]
            answers = method.fuse(said, [client.labelled for client in clients])
            told = [traffic.pass_on("down", turn, place, each) for place, each in enumerate(answers)]
        for place, (client, record) in enumerate(zip(clients, records)):
            message = told[place]
            if message is not None and message.what == "weights":
                client.model.load_state_dict(message.tensors)
                told[place] = None
            found = client.val()
            record.vals.append(found[0])
            if found > best[place]:
                best[place] = found
                record.val, record.test, record.turn = found[0], client.test(), turn
                kept[place] = copy.deepcopy(client.model.state_dict())
        if log is not None:
            mean = sum(record.vals[-1] for record in records) / len(records)
            log(f"round {turn + 1} of {turns}: val {mean:.4f}")
    for client, state in zip(clients, kept):
        if state:
            client.model.load_state_dict(state)
    return Federation(clients, records, traffic)
