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
        outputs, labels, logits = torch.randn(6, 2**layers), torch.arange(6) % 2, torch.randn(6, 2)
        return Message(what, dict(layer=torch.tensor(layers - 1), outputs=outputs, labels=labels, logits=logits))

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
    assert [told.what for told in client.heard if told is not None] == ["own"] * 6
    assert {found.traffic.down[turn, 0] for turn in range(6)} == {6 * 2 * 4}
    sizes = [found.traffic.up[turn, 0] for turn in range(6)]
    assert sizes == [8 + 6 * (4 * width + 8 + 2 * 4) for width in (8, 8, 8, 4, 4, 2)]
    assert sorted(server.heads) == [0, 1, 2]  # type: ignore[attr-defined]
    run([client, Puppet()], server, 2)
    assert sorted(server.heads) == [2]  # type: ignore[attr-defined]


def of_layer(outputs: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> Message:
    return Message("outputs", dict(layer=torch.tensor(0), outputs=outputs, labels=labels, logits=logits))


def kinds(count: int, unknown: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs in three clusters, their classes, and predictions of someone who has no clue."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    z = 3 * torch.eye(3)[y] + 0.3 * torch.randn(count, 3, generator=draw)
    return z, torch.full_like(y, -1) if unknown else y, torch.zeros(count, 3)


def test_a_head_tells_a_client_what_the_labels_of_others_say_of_its_outputs() -> None:
    server, here, there = METHODS["fedd2s"](), kinds(60, True, 0), kinds(30, False, 1)
    told = server.fuse([of_layer(*here), of_layer(*there)], [60, 30])
    right = torch.arange(60) % 3
    assert [each.tensors["logits"].shape for each in told] == [(60, 3), (30, 3)]
    assert (told[0].tensors["logits"].argmax(1) == right).float().mean() > 0.95
    server.begin()
    alone = server.fuse([of_layer(*here)], [60])[0].tensors["logits"]
    assert (alone.argmax(1) == right).float().mean() < 0.7
    maps = of_layer(
        *(each.view(5, 6, *each.shape[1:]).movedim(2, 1) if each.ndim == 2 else each.view(5, 6) for each in there)
    )
    server.begin()
    rows, again = server.fuse([of_layer(*there)], [30])[0], None
    server.begin()
    again = server.fuse([maps], [30])[0].tensors["logits"]
    assert again.shape == (5, 3, 6)
    torch.testing.assert_close(again.movedim(1, -1).flatten(0, 1), rows.tensors["logits"])


def test_the_head_learns_predictions_beside_labels_and_goes_on_where_it_was() -> None:
    z, y, _ = kinds(90, False, 0)
    sure = 8 * torch.eye(3)[(y + 1) % 3]  # of a client that calls each class otherwise
    found = {}
    for weight in (0.0, 50.0):
        server = METHODS["fedd2s"](divergence=weight, steps=200)
        found[weight] = server.fuse([of_layer(z, y, sure)], [90])[0].tensors["logits"].argmax(1)
    assert (found[0.0] == y).float().mean() > 0.95
    assert (found[50.0] == (y + 1) % 3).float().mean() > 0.95
    server, errors = METHODS["fedd2s"](steps=5, divergence=0.0), []
    for _ in range(4):
        told = server.fuse([of_layer(z, y, sure)], [90])[0].tensors["logits"]
        errors.append(nn.functional.cross_entropy(told, y).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(steps=0), "steps is a whole number from 1, got 0"),
        (dict(wide=True), "wide is a whole number from 1, got True"),
        (dict(lr=0.0), "lr is above 0"),
        (dict(divergence=float("nan")), "divergence is a number of at least 0, got nan"),
    ],
)
def test_a_head_that_cannot_be_is_named(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        method_of(dict(type="fedd2s", **options))


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
