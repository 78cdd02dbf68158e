"""Clients that share the nodes of a graph."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.recorder import Recorder
from torch import Tensor

from graphkd import Graph, StudentClassifier, cpf_split, digits, federate
from graphkd.cli import federate as command
from kdlosses.rounds import METHODS, Message

GRAPH = digits()
SPLIT = cpf_split(GRAPH.y, 0)
QUICK = StudentClassifier(hidden=(16, 16), dropout=0.0, epochs=3, method=dict(type="glnn", lam=0.5))


def state(model: torch.nn.Module) -> dict[str, Tensor]:
    return model.state_dict()


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def halves() -> list[Tensor]:
    return [torch.arange(len(GRAPH))[place::3] for place in range(3)]


def spoilt(place: int) -> Graph:
    """The digits with other features and labels at the nodes of one client that no other one knows."""
    order = SPLIT.test[torch.randperm(len(SPLIT.test), generator=torch.Generator().manual_seed(0))]
    private = torch.zeros(len(GRAPH), dtype=torch.bool).index_fill(0, halves()[place], True)
    private[order[: round(0.3 * len(order))]] = False  # shared by all
    draw = torch.Generator().manual_seed(1)
    x, y = GRAPH.x.clone(), GRAPH.y.clone()
    x[private] = torch.rand(x[private].shape, generator=draw)
    y[private] = y[private][torch.randperm(int(private.sum()), generator=draw)]
    return replace(GRAPH, x=x, y=y)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_a_client_reaches_another_one_but_what_it_says(method: str) -> None:
    given: dict[str, Any] = dict(clients=halves(), rounds=3, student=QUICK, split=SPLIT)
    plain = Recorder()
    clean = federate(GRAPH, method, **given, traffic=plain)
    told = {key: each for key, each in plain.kept.items() if key[0] == "down" and key[2] != 2}
    replayed = Recorder(told)  # the others are told what they were told before
    other = federate(spoilt(2), method, **given, traffic=replayed)
    for place in range(2):
        assert same(state(clean.clients[place].model), state(other.clients[place].model))
        assert clean.records[place] == other.records[place]
    assert not same(state(clean.clients[2].model), state(other.clients[2].model))
    for key, message in plain.kept.items():
        if key[0] == "up" and key[2] != 2:
            assert same(message.tensors, replayed.kept[key].tensors)


def test_labels_of_shared_and_test_nodes_do_not_matter() -> None:
    given: dict[str, Any] = dict(clients=halves(), rounds=3, student=QUICK, split=SPLIT)
    y = GRAPH.y.clone()
    y[SPLIT.test] = y[SPLIT.test].roll(1)
    clean, other = federate(GRAPH, "knfu", **given), federate(replace(GRAPH, y=y), "knfu", **given)
    for one, two in zip(clean.clients, other.clients):
        assert same(state(one.model), state(two.model))
    assert [each.vals for each in clean.records] == [each.vals for each in other.records]
    assert clean.metrics["mean"] != other.metrics["mean"]


def test_bytes_are_those_of_what_is_sent() -> None:
    given: dict[str, Any] = dict(clients=3, rounds=4, student=QUICK, shares=1.0)
    free = round(0.3 * len(SPLIT.test))
    answers, weights = (
        free * 10 * 4,
        sum(each.numel() * 4 for each in QUICK.fit(GRAPH.x, GRAPH.y).network_.parameters()),
    )
    found = federate(GRAPH, "knfu", **given)
    assert found.traffic.up == found.traffic.down == {(turn, k): answers for turn in range(3) for k in range(3)}
    found = federate(GRAPH, "fedavg", **given)
    assert found.traffic.up == found.traffic.down == {(turn, k): weights for turn in range(4) for k in range(3)}
    assert len({json.dumps({k: v.tolist() for k, v in state(each.model).items()}) for each in found.clients}) <= 4
    found = federate(GRAPH, "fedd2s", **given)
    own = found.clients[0].labelled
    assert [found.traffic.down[turn, 0] for turn in range(3)] == [own * 10 * 4] * 3
    assert [found.traffic.up[turn, 0] for turn in range(3)] == [
        8 + own * (width * 4 + 8 + 10 * 4) for width in (10, 10, QUICK.hidden[-1])
    ]
    assert "kB down" in repr(found)


def unlike(pairs: int = 2) -> tuple[Graph, list[Tensor]]:
    """Two pairs of clients, the second of which calls each digit otherwise, and few labels at each."""
    owner = torch.randint(4, (len(GRAPH),), generator=torch.Generator().manual_seed(0))
    y = torch.where(owner >= pairs, (GRAPH.y + 5) % 10, GRAPH.y)
    return replace(GRAPH, y=y), [(owner == place).nonzero().flatten() for place in range(4)]


def test_knfu_is_better_than_all_predictions_and_than_alone_where_clients_are_unlike() -> None:
    graph, clients = unlike()
    student = StudentClassifier(hidden=(64,), dropout=0.0, epochs=40, method=dict(type="glnn", lam=0.5))
    split = cpf_split(GRAPH.y, 0, train_per_class=12)
    given: dict[str, Any] = dict(clients=clients, rounds=3, student=student, split=split)
    found = {name: federate(graph, name, **given).metrics["mean"] for name in ("local", "average", "knfu")}
    assert found["knfu"] > found["local"] + 0.03, found
    assert found["knfu"] > found["average"] + 0.03, found


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_a_client_says_of_a_layer_is_its_output_and_what_it_is_told_moves_it(layers: int) -> None:
    student = StudentClassifier(hidden=(16, 16), dropout=0.0, epochs=1, method=dict(type="glnn", lam=0.5))
    given: dict[str, Any] = dict(clients=halves(), rounds=1, student=student, split=SPLIT)
    client = federate(GRAPH, "local", **given).clients[0]
    said = client.say("outputs", layers).tensors
    x, y = client.train
    assert torch.equal(said["outputs"], client.model.outputs(x)[layers - 1])
    assert torch.equal(said["logits"], client.model(x))
    assert torch.equal(said["labels"], y)
    learnt = []
    for turned in (0, 5):
        each = copy.deepcopy(client)
        each.learn(1, Message("own", {"logits": 20 * torch.eye(10)[(y + turned) % 10]}))
        learnt.append(state(each.model))
    assert not torch.equal(*(each["layers.2.weight"] for each in learnt))


@pytest.mark.parametrize("recipe", ["ffg2m", "mixup", "terms"])
def test_any_recipe_of_an_mlp_teaches_from_what_was_told(recipe: str) -> None:
    entries = dict(distills=[dict(loss="dist")]) if recipe == "terms" else {}
    spec = dict(type=recipe, **entries) if recipe == "mixup" else dict(type=recipe, lam=0.5, **entries)
    student = StudentClassifier(hidden=(16,), dropout=0.0, epochs=3, method=spec)
    found = federate(GRAPH, "knfu", clients=2, rounds=2, student=student, shares=10.0)
    assert 0.2 < found.metrics["mean"] <= 1


def test_clients_may_have_networks_of_their_own() -> None:
    students = [StudentClassifier(hidden=width, epochs=3) for width in (8, (16, 8))]
    found = federate(GRAPH, "knfu", clients=2, rounds=2, student=students, shares=10.0)
    assert [client.model.widths for client in found.clients] == [[8, 10], [16, 8, 10]]
    with pytest.raises(ValueError, match="needs the same model at each client"):
        federate(GRAPH, "fedavg", clients=2, rounds=2, student=students, shares=10.0)


def test_what_does_not_fit_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    monkeypatch.setattr("kdlosses.rounds.Traffic.pass_on", lambda *given: trained.append(1))
    few = [torch.arange(10), torch.arange(5, 20)]
    for told, given in (
        ("at least 1, got 0", dict(clients=0)),
        ("at least 1, got -1", dict(clients=-1)),
        ("201 clients are more than there are training nodes, 200", dict(clients=201)),
        ("Dirichlet distribution, above 0, got 0", dict(shares=0)),
        ("Dirichlet distribution, above 0, got -0.5", dict(shares=-0.5)),
        ("has no train node: take fewer clients", dict(clients=60, shares=0.01)),
        ("client 1 has nodes that client 0 has, too", dict(clients=few)),
        ("client 0 names a node outside", dict(clients=[torch.tensor([5000])])),
        ("at least 1, got 0", dict(clients=[])),
        ("leave one of them out", dict(clients=halves(), shares=0.3)),
        ("rounds is a whole number from 1, got 0", dict(rounds=0)),
        ("transfer is the share of the test nodes", dict(transfer=1.0)),
        ("transfer is the share of the test nodes", dict(transfer="half")),
        ("the student of a client has no patience", dict(student=StudentClassifier(patience=3))),
        ("a list of one for each of 5, got 2", dict(student=[QUICK, QUICK])),
        ("trains a network of its own", dict(student=StudentClassifier(method="simmlp"))),
        ("needs ['noisy'] of its teacher", dict(student=StudentClassifier(method="krd"))),
        ("lam is the weight of the labels", dict(student=StudentClassifier(method=dict(type="glnn", lam=2.0)))),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            federate(GRAPH, **given)
    with pytest.raises(KeyError, match="did you mean 'knfu'"):
        federate(GRAPH, "knfuu")
    with pytest.raises(TypeError, match="how many there are, or a list"):
        federate(GRAPH, clients="five")
    assert not trained


CONFIG = """
data = "digits"
clients = 2
rounds = 2
shares = 1.0
transfer = 0.3
student = dict(hidden=[16], dropout=0.0, epochs=2, method=dict(type="glnn", lam=0.5))
methods = ["local", "knfu"]
"""


def test_one_command_prints_the_table_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    config, out = tmp_path / "mine" / "digits.py", tmp_path / "log.json"
    config.write_text(CONFIG)
    command.main([str(config), "--seeds", "1", "--out", str(out)])
    text = capsys.readouterr().out
    assert "| control |" in text
    assert "| distilled, knfu |" in text
    logs = json.loads(out.read_text())
    assert [(log["role"], log["method"], log["seed"]) for log in logs] == [
        ("control", "local", 0),
        ("distilled", "knfu", 0),
    ]
    assert logs[0]["metrics"]["MB up"] == 0
    assert logs[1]["metrics"]["MB up"] == sum(sum(each["up"]) for each in logs[1]["clients"]) / 1e6 > 0
    before = out.read_bytes()
    command.main([str(config), "--seeds", "1", "--out", str(out)])
    assert out.read_bytes() == before
    for methods, message in (
        ('["knfu", "knfu"]', "methods lists 'knfu' twice"),
        ('["local", "knfuu"]', "knfuu.*did you mean 'knfu'"),
    ):
        config.write_text(CONFIG.replace('["local", "knfu"]', methods))
        with pytest.raises(SystemExit, match=message):
            command.read_config(config)
    config.write_text(CONFIG.replace("rounds", "turns"))
    with pytest.raises(SystemExit, match=r"has a key 'turns', which no config of clients has"):
        command.main([str(config)])
    config.write_text(CONFIG.replace("clients = 2", "clients = 0"))
    with pytest.raises(SystemExit, match="at least 1, got 0"):
        command.main([str(config), "--out", str(tmp_path / "other.json")])
