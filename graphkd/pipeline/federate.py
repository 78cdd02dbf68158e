"""Clients with parts of one graph learn in rounds: students on nodes for the loop of `kdlosses.rounds`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor

from graphkd.data import Graph, Split, as_graph, undirected
from graphkd.networks.mlp import MLP
from graphkd.pipeline.arguments import SplitSpec, checked_seed, chosen_split
from graphkd.recipes import NETWORKS, RECIPES, check_method
from graphkd.recipes.registry import extras_of, nested
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.students.classifier import StudentClassifier
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Schedule, rehearsal, score, train
from kdlosses.rounds import Federation, Local, Message, Traffic, check, method_of, run, seed_of
from kdlosses.shares import dealt, proportions

SHARES = 0.3
_UNREAD = ("patience", "random_state", "scaler", "device", "amp", "scoring")


def federate(
    data: Any,
    method: str | Mapping[str, Any] | Local = "knfu",
    *,
    clients: int | Sequence[Any] = 5,
    rounds: int = 10,
    shares: float | None = None,
    transfer: float = 0.3,
    student: StudentClassifier | Sequence[StudentClassifier] | None = None,
    split: SplitSpec | None = None,
    seed: int = 0,
    traffic: Traffic | None = None,
    log: Callable[[str], None] | None = None,
) -> Federation:
    """Train a student at each of several clients that share a graph's nodes, in rounds, in one process.

    A client has nodes of its own, with their labels, which nobody else sees. All clients have the shared nodes, which
    are taken from the test part: their features and the edges among them are known, their labels are not read, and
    nobody is tested on them. In each round each client learns, from its labels and, after the first round, from what it
    was told; then it says what the method asks for. Each client's round is chosen on its own validation nodes, and its
    own test nodes are reported.

    Where predictions are exchanged a client learns by the recipe of its student. The steps are over the shared nodes,
    where the teacher's logits are those that it was told; a recipe that looks at other nodes, too, finds there what the
    client itself said before the round. The labels are those of its own training nodes. Of edges a recipe sees those
    among the shared nodes. There are no hidden layers of a teacher, and nobody to ask.

    In `fedd2s` a client learns by the recipe of its student, too, from what it was told of its own training nodes; of
    edges a recipe sees none there.

    Args:
        data: a graph of nodes with classes, as of `distill`.
        method: a name of `kdlosses.rounds.METHODS`, `local`, `fedavg`, `average`, `knfu` or `fedd2s`, as
            `dict(type=name, **options)`, or a `kdlosses.rounds.Local` of one's own.
        clients: how many; or for each the ids of its nodes.
        rounds: how many.
        shares: concentration of the Dirichlet distribution by which the nodes of each class are dealt out to so many
            clients, see `kdlosses.shares.proportions`; the smaller, the less alike they are. Training, validation and
            test nodes are dealt out in the same proportions. 0.3 if not given.
        transfer: share of the test nodes that all clients have, without labels.
        student: its network, its `lr`, `weight_decay` and `batch_size`, its recipe as `method`, and as `epochs` those
            of one round; or a list of one for each client, which need not be alike where predictions are exchanged.
            Default: 64 hidden units, 10 epochs, `glnn` with labels at weight 0.5.
        split: as in `distill`.
        seed: of the split, the shares, the parameters, which are the same at clients that are alike, and what is drawn.
        traffic: counts bytes.
        log: takes a line for each round.

    Raises:
        ValueError: no client, more clients than training nodes, a client without nodes in a part of the split, a number
            out of range, or models that differ where they must not; before anything is trained.
        TypeError: the method or the student has no such option, or is nothing of the kind.
        KeyError: unknown method or recipe; names the nearest.

    >>> from graphkd.data import digits
    >>> result = federate(digits(), "knfu", clients=2, rounds=2)
    >>> 0.5 < result.metrics["mean"] <= 1, result.metrics["bytes up"] == 2 * 389 * 10 * 4
    (True, True)
    """
    seed, server = checked_seed(seed), method_of(method)
    graph = undirected(as_graph(data, "raise" if split is None else "keep"))
    if graph.task != "single-label" or graph.reads is not None:
        raise ValueError("federate is for classes of the nodes of one plain graph")
    parts, shared = _parts(graph, chosen_split(graph, split, seed), clients, shares, transfer, seed)
    students = [student] * len(parts) if student is None or isinstance(student, StudentClassifier) else list(student)
    if len(students) != len(parts):
        raise ValueError(
            f"student is one for all clients or a list of one for each of {len(parts)}, got {len(students)}"
        )
    known = graph.subgraph(shared)
    made = [
        NodeClient(known, graph, part, _checked(each), seed, place)
        for place, (part, each) in enumerate(zip(parts, students))
    ]
    check(made, server, rounds)
    _rehearse(made, server, rounds)
    return run(made, server, rounds, traffic, log)


class NodeClient:
    """A client of `kdlosses.rounds` with nodes of a graph.

    Args:
        shared: the graph of the nodes that all clients have.
        graph: the whole graph, of which the rows of `part` are kept and nothing else.
        part: its training, validation and test nodes.
        student: see `federate`.
        seed: of all clients.
        place: number of the client.
    """

    def __init__(
        self, shared: Graph, graph: Graph, part: Split, student: StudentClassifier, seed: int, place: int
    ) -> None:
        self.shared, self.classes = shared, graph.num_classes
        self.train, self.valid, self.tested = (
            (rows(graph.x, ids), graph.y[ids]) for ids in (part.train, part.val, part.test)
        )
        self.student, self.seed, self.place = student, seed, place
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = MLP(graph.x.shape[1], student.hidden, self.classes, student.dropout, student.norm).eval()
        self.labelled, self.depth = len(part.train), len(self.model.widths)

    def learn(self, turn: int, told: Message | None) -> None:
        x, y = self.train
        if told is None:
            self._fit("supervised", x, y, turn)
        elif told.what == "answers":
            with torch.no_grad():
                own = self.model(x)  # what nobody else can say
            self._fit(
                self.student.method,
                torch.cat([rows(self.shared.x), x]),
                torch.cat([torch.full((len(self.shared),), -1), y]),
                turn,
                teacher=torch.cat([told.tensors["logits"], own]),
                edge_index=self.shared.edge_index,
            )
        else:
            alone = torch.empty(2, 0, dtype=torch.long)
            self._fit(self.student.method, x, y, turn, teacher=told.tensors["logits"], edge_index=alone)

    def _fit(self, spec: Any, x: Tensor, y: Tensor, turn: int, **more: Any) -> None:
        """Go on with the training of the model, by a recipe; steps are taken over the nodes without a label, if any."""
        recipe, options = resolve("method", spec, RECIPES)
        each, drawn = self.student, seed_of(self.seed, self.place, turn)
        generator, clock = torch.Generator().manual_seed(drawn), Clock()
        schedule = Schedule(each.lr, each.weight_decay, each.epochs, batch_size=each.batch_size)
        free = int((y < 0).sum())

        def loop(model: Any, loss: Callable[[Tensor | slice], Tensor], nodes: int, **told: Any) -> History:
            if free and nodes == len(y):
                return train(model, lambda ids: loss(first if isinstance(ids, slice) else ids), free, **shared, **told)
            return train(model, loss, nodes, **shared, **told)

        first = torch.arange(free)
        shared: dict[str, Any] = dict(schedule=schedule, generator=generator, clock=clock)
        lesson = Lesson(x, y, loop, generator, batch_size=each.batch_size, clock=clock, **more)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn)
            recipe(self.model, lesson, **options)
        self.model.eval()

    @torch.no_grad()
    def say(self, what: str, layers: int) -> Message:
        if what == "weights":
            return Message(what, copy.deepcopy(self.model.state_dict()))
        if what == "answers":
            return Message(what, {"logits": self.model(rows(self.shared.x))})
        x, y = self.train
        outputs = self.model.outputs(x)
        layer = torch.tensor(layers - 1)
        return Message(what, dict(layer=layer, outputs=outputs[layers - 1], labels=y, logits=outputs[-1]))

    def val(self) -> tuple[float, ...]:
        return self._scored(*self.valid)

    def test(self) -> float:
        return self._scored(*self.tested)[0]

    @torch.no_grad()
    def _scored(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        return score(self.model(x), y)


def _checked(student: Any) -> StudentClassifier:
    """A copy of the student; raise for what no client has."""
    if student is None:
        return StudentClassifier(hidden=(64,), epochs=10, method=dict(type="glnn", lam=0.5))
    if type(student) is not StudentClassifier:
        raise TypeError(f"the student of a client is a StudentClassifier, got a {type(student).__name__}")
    plain = StudentClassifier()
    for name in _UNREAD:
        if getattr(student, name) != getattr(plain, name):
            raise ValueError(f"the student of a client has no {name}: rounds are chosen, of all epochs; leave it out")
    student = clone(student)
    student.check_settings()
    check_method(student.method)
    more = sorted(extras_of(student.method))
    if more:
        raise ValueError(
            f"the recipe {student.method!r} needs {more} of its teacher, and a client is told logits alone"
        )
    own = next((name for name in nested(student.method) if name in NETWORKS), None)
    if own is not None:
        raise ValueError(f"the recipe {own!r} trains a network of its own; a client trains the same MLP in all rounds")
    return student


def _parts(
    graph: Graph, split: Split, clients: Any, shares: float | None, transfer: float, seed: int
) -> tuple[list[Split], Tensor]:
    """The split of each client, and the shared nodes, which are in none."""
    if not isinstance(transfer, int | float) or not 0 < transfer < 1:
        raise ValueError(
            f"transfer is the share of the test nodes that all clients have, between 0 and 1, got {transfer}"
        )
    order = split.test[torch.randperm(len(split.test), generator=torch.Generator().manual_seed(seed))]
    free = round(transfer * len(order))
    if not 0 < free < len(order):
        raise ValueError(f"transfer={transfer} of {len(order)} test nodes leaves none to share or none to test")
    whole = {"train": split.train, "val": split.val, "test": order[free:].sort().values}
    if isinstance(clients, int) and not isinstance(clients, bool):
        if clients > len(split.train):
            raise ValueError(f"{clients} clients are more than there are training nodes, {len(split.train)}")
        shared = proportions(graph.num_classes, clients, SHARES if shares is None else shares, seed)
        dealt_out = {name: [ids[each] for each in dealt(graph.y[ids], shared, seed)] for name, ids in whole.items()}
    else:
        dealt_out = _own(whole, clients, shares, len(graph))
    count = len(dealt_out["train"])
    for place in range(count):
        for name, each in dealt_out.items():
            if not len(each[place]):
                raise ValueError(
                    f"client {place} of {count} has no {name} node: take fewer clients, larger shares, or another seed"
                )
    return [Split(*(dealt_out[name][place] for name in whole)) for place in range(count)], order[:free].sort().values


def _own(whole: Mapping[str, Tensor], clients: Any, shares: float | None, nodes: int) -> dict[str, list[Tensor]]:
    """The nodes of each client where the user says which are whose."""
    if not isinstance(clients, Sequence) or isinstance(clients, str):
        raise TypeError(f"clients is how many there are, or a list of node ids for each, got {clients!r}")
    if shares is not None:
        raise ValueError("shares deals nodes out to clients, and here each client has its own: leave one of them out")
    owner = torch.full((nodes,), -1)
    for place, ids in enumerate(clients):
        ids = torch.as_tensor(ids)
        if ids.ndim != 1 or ids.is_floating_point() or ids.dtype is torch.bool:
            raise TypeError(f"the nodes of client {place} are node ids, a list of integers")
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < nodes:
            raise ValueError(f"client {place} names a node outside of the graph's, 0 to {nodes - 1}")
        if (owner[ids] >= 0).any():
            raise ValueError(f"client {place} has nodes that client {int(owner[ids].max())} has, too")
        owner[ids] = place
    return {name: [ids[owner[ids] == place] for place in range(len(clients))] for name, ids in whole.items()}


def _rehearse(clients: Sequence[NodeClient], server: Local, rounds: int) -> None:
    """Raise what the first step from an answer would raise; recipes of one's own are left out."""
    known = all(name in RECIPES for client in clients for name in nested(client.student.method))
    if server.asks in (None, "weights") or not known:
        return
    said = [client.say(server.asks, server.layers(0, rounds, client.depth)) for client in clients]
    for client, told in zip(clients, server.fuse(said, [each.labelled for each in clients])):
        with rehearsal():
            copy.deepcopy(client).learn(0, told)
