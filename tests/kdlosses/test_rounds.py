"""The loop of clients and rounds, with clients that say what the test wants them to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from kdlosses.rounds import METHODS, Message, Traffic, method_of, run


class Puppet:
    """A client that counts rounds in its weight and has the scores that it is given."""

    depth = 3

    def __init__(self, labelled: int = 1, vals: tuple[float, ...] = (), width: int = 1) -> None:
        self.model = nn.Linear(width, 1, bias=False)
        nn.init.constant_(self.model.weight, labelled)
        self.labelled, self.vals = labelled, list(vals)
        self.heard: list[Message | None] = []
        self.asked: list[int] = []

    def learn(self, turn: int, told: Message | None) -> None:
        self.heard.append(told)
        with torch.no_grad():
            self.model.weight += 1
        self.turn = turn

    def say(self, what: str, layers: int) -> Message:
        self.asked.append(layers)
        if what == "weights":
            return Message(what, {"weight": self.model.weight.detach().clone()})
        if what == "answers":
            return Message(what, {"logits": torch.randn(6, 2)})
        told = {f"{place}": torch.zeros(2, 4) for place in range(layers)}
        return Message(what, told | {f"count {place}": torch.ones(2) for place in range(layers)})

    def val(self) -> tuple[float, ...]:
        return (self.vals[self.turn] if self.vals else 0.0,)

    def test(self) -> float:
        return 100.0 + self.turn


def messages(what: str, *tensors: torch.Tensor) -> list[Message]:
    return [Message(what, {"logits" if what == "answers" else "weight": each}) for each in tensors]


def test_validation_chooses_the_round_of_each_client_and_its_model() -> None:
    clients = [Puppet(vals=(0.1, 0.7, 0.7, 0.2)), Puppet(vals=(0.5, 0.4, 0.3, 0.9))]
    found = run(clients, method_of("local"), 4)
    assert [(each.val, each.turn, each.test) for each in found.records] == [(0.7, 1, 101.0), (0.9, 3, 103.0)]
    assert [client.model.weight.item() for client in clients] == [3.0, 5.0]
    assert found.metrics["mean"] == 102.0
    assert found.metrics["deviation"] == pytest.approx(2**0.5)
    assert found.metrics["worst"] == 101.0


def test_bytes_are_counted_by_round_and_client() -> None:
    traffic = Traffic()
    run([Puppet(), Puppet(), Puppet()], method_of("average"), 3, traffic)
    assert traffic.up == traffic.down == {(turn, client): 6 * 2 * 4 for turn in range(2) for client in range(3)}
    alone = run([Puppet()], method_of("local"), 3)
    assert alone.traffic.up == alone.traffic.down == {}


def test_one_learns_in_a_round_from_what_was_said_in_the_one_before() -> None:
    client = Puppet()
    run([client, Puppet()], method_of("knfu"), 3)
    assert [None if told is None else told.what for told in client.heard] == [None, "answers", "answers"]


def test_fedavg_is_a_mean_weighted_by_the_size_of_the_data() -> None:
    first, second = torch.randn(3, 4), torch.randn(3, 4)
    found = METHODS["fedavg"]().fuse(messages("weights", first, second), [30, 10])
    for each in found:
        np.testing.assert_allclose(each.tensors["weight"], 0.75 * first + 0.25 * second, rtol=1e-6)
    clients = [Puppet(1), Puppet(3)]
    run(clients, method_of("fedavg"), 1)
    assert {client.model.weight.item() for client in clients} == {(2 + 3 * 4) / 4}  # of 1 + 1 and 3 + 1


def test_average_is_the_mean_of_all_predictions() -> None:
    logits = [torch.randn(5, 3, dtype=torch.float64) for _ in range(3)]
    (first, *rest) = METHODS["average"]().fuse(messages("answers", *logits), [1, 9, 1])
    expected = np.mean([softmax(each.numpy(), axis=1) for each in logits], axis=0)
    np.testing.assert_allclose(first.tensors["logits"].exp(), expected)
    assert all(each is first for each in rest)


def test_knfu_hears_those_that_are_alike() -> None:
    label = torch.randint(4, (60,))
    told = [5 * torch.eye(4)[(label + turned) % 4] + 0.1 * torch.randn(60, 4) for turned in (0, 0, 2, 2)]
    server = METHODS["knfu"]()
    a = server.weights(torch.stack(told, 1))
    assert torch.allclose(a.sum(1), torch.ones(4))
    assert a[:2, 2:].max() < 1e-3
    assert a[2:, :2].max() < 1e-3
    assert a[0, 1] > 0.2
    fused = server.fuse(messages("answers", *told), [1] * 4)
    right = [
        (each.tensors["logits"].argmax(1) == (label + turned) % 4).all() for each, turned in zip(fused, (0, 0, 2, 2))
    ]
    assert all(right)
    plain = METHODS["average"]().fuse(messages("answers", *told), [1] * 4)[0].tensors["logits"].exp()
    assert plain.max() < 0.6  # of two that say otherwise it makes nothing


def test_deep_layers_leave_before_shallow_ones() -> None:
    server = METHODS["fedd2s"]()
    assert [server.layers(turn, 6, 3) for turn in range(6)] == [3, 3, 2, 2, 1, 1]
    for turns, depth in ((1, 4), (10, 3), (3, 5)):
        taken = [server.layers(turn, turns, depth) for turn in range(turns)]
        assert taken[0] == depth
        assert taken == sorted(taken, reverse=True)
        assert min(taken) >= 1
    client = Puppet()
    found = run([client, Puppet()], server, 7)
    assert client.asked == [3, 3, 3, 2, 2, 1]
    names = [[*told.tensors] for told in client.heard if told is not None]
    assert names == [["0", "1", "2"]] * 3 + [["0", "1"]] * 2 + [["0"]]
    sizes = [found.traffic.down[turn, 0] for turn in range(6)]
    assert sizes == [96, 96, 96, 64, 64, 32]


def test_means_are_those_of_all_data_at_once() -> None:
    rows = [torch.randn(n, 4, dtype=torch.float64) for n in (7, 3)]
    labels = [torch.tensor([0, 0, 0, 1, 1, 0, 1]), torch.tensor([0, 2, 2])]
    said = []
    for x, y in zip(rows, labels):
        count = torch.bincount(y, minlength=3).double()
        mean = torch.stack([x[y == label].sum(0) / max(1, int(count[label])) for label in range(3)])
        said.append(Message("means", {"0": mean, "count 0": count}))
    (found, _) = METHODS["fedd2s"]().fuse(said, [7, 3])
    x, y = torch.cat(rows).numpy(), torch.cat(labels).numpy()
    np.testing.assert_allclose(found.tensors["0"], np.stack([x[y == label].mean(0) for label in range(3)]))
    assert [*found.tensors] == ["0"]  # how many each has is not told


def test_what_is_wrong_is_named_before_a_round() -> None:
    client = Puppet()
    for clients, method, turns, told in (
        ([], "local", 3, "at least 1, got 0"),
        ([client], "local", 0, "rounds is a whole number from 1, got 0"),
        ([client], "local", 1.5, "rounds is a whole number from 1"),
        ([client, Puppet(width=2)], "fedavg", 3, "needs the same model at each client; that of client 1"),
        ([client, Puppet(width=2)], "fedd2s", 3, "choose knfu or average"),
    ):
        with pytest.raises(ValueError, match=told):
            run(clients, method_of(method), turns)
    assert not client.heard
    run([client, Puppet(width=2)], method_of("knfu"), 1)  # which takes models of any shape
    with pytest.raises(KeyError, match="no federated method is called 'knfuu'; did you mean 'knfu'"):
        method_of("knfuu")
    with pytest.raises(TypeError, match="federated method 'knfu'"):
        method_of(dict(type="knfu", near=1))
    with pytest.raises(ValueError, match="the temperature must be positive"):
        method_of(dict(type="knfu", temperature=0.0))
