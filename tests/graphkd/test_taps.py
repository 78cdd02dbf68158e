"""Hidden layers of any module of PyG: found, or named by path; and the recipes that learn from them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graphkd import Cache, Graph, StudentClassifier, cpf_split, digits, distill, make_setting, train_teacher
from graphkd.teachers.taps import hidden_layers, with_taps

STUDENT = StudentClassifier(hidden=(32,), dropout=0.0, epochs=40)


class Mine(nn.Module):
    """As one writes it: convolutions, an activation in place, a linear head."""

    def __init__(self, inputs: int = 64, classes: int = 10) -> None:
        super().__init__()
        from torch_geometric.nn import SAGEConv

        self.first, self.second = SAGEConv(inputs, 32), SAGEConv(32, 32)
        self.head = nn.Linear(32, classes)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.first(x, edge_index).relu_()
        return self.head(self.second(x, edge_index).relu_())


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


def layers(graph: Graph, teacher: object) -> tuple[Cache, nn.Module]:
    outcome = train_teacher(make_setting(graph, cpf_split(graph.y, 0), "tran", 0), teacher)  # type: ignore[arg-type]
    assert outcome.cache is not None
    return outcome.cache, outcome.model


def test_layers_of_message_passing_are_found(graph: Graph) -> None:
    cache, network = layers(graph, dict(type=Mine, epochs=2))
    with torch.no_grad():
        one = network.first(graph.x, graph.edge_index)
        two = network.second(one.relu(), graph.edge_index)
        logits = network.head(two.relu())
    for found, expected in zip((*cache.hidden, cache.logits), (one, two, logits), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-5)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_layer_of_the_logits_is_no_hidden_one(graph: Graph) -> None:
    from torch_geometric.nn import GraphSAGE

    torch.manual_seed(0)
    network = GraphSAGE(64, 16, 3, 10)
    with pytest.warns(UserWarning, match="no record of its training split"):
        cache, _ = layers(graph, network)
    assert [layer.shape[1] for layer in cache.hidden] == [16, 16]


def test_taps_by_path_read_what_they_name(graph: Graph) -> None:
    network = Mine().eval()
    given = dict(network.__dict__)
    with pytest.warns(UserWarning, match="no record of its training split"):
        cache, ran = layers(graph, dict(module=network, taps=["head:in", "second:copy"]))
    assert network.__dict__.keys() == given.keys()
    assert next(ran.parameters()) is next(network.parameters())
    with torch.no_grad():
        two = network.second(network.first(graph.x, graph.edge_index).relu(), graph.edge_index)
    for found, expected in zip(cache.hidden, (two.relu(), two), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-5)
    cache, _ = layers(graph, dict(type=Mine, epochs=1, taps=["head:in"]))
    assert [layer.shape for layer in cache.hidden] == [(len(graph), 32)]
    assert cache.settings["teacher"]["taps"] == ["head:in"]


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["frist"], r"Mine has no module 'frist'; nearest: first"),
        (["unused"], r"tap 'unused' of Mine never fired: .*nearest that were called: "),
        (["second.lin_l"], None),
        (["second"], r"tap 'second' of Mine was overwritten in place .*'second:copy'"),
        (["first:0"], r"tap 'first:0': there is no item 0"),
        ("first", r"taps is a list of paths"),
    ],
)
def test_a_tap_that_yields_no_layer_is_named_before_training(graph: Graph, taps: object, message: str | None) -> None:
    teacher = dict(type=Mine, taps=taps, epochs=10**9)
    if message is None:
        layers(graph, {**teacher, "epochs": 1})
        return
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        distill(graph, teacher, "glnn", student=STUDENT, setting="tran")


def test_a_tap_of_another_shape_names_those_that_would_do() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten())
    with pytest.raises(ValueError, match=r"tap '1' of Sequential yields \(5, 2, 3\), expected a hidden layer \(5, d\)"):
        hidden_layers(with_taps(network, ["1"]), lambda each: each(torch.ones(5, 4)), 5)


@pytest.mark.parametrize(
    "method",
    [
        dict(type="curvature"),
        dict(type="kd3"),
        dict(type="lingugkd"),
        dict(type="tined"),
        dict(type="vqgraph", codes=16),
        dict(
            type="terms", distills=[dict(loss="mse", student="hidden", teacher="hidden", weight=0.01), dict(loss="kl")]
        ),
    ],
    ids=lambda method: method["type"],
)
def test_recipes_of_hidden_layers_take_any_module(graph: Graph, method: dict[str, object]) -> None:
    student = StudentClassifier(hidden=(32, 32), epochs=60)
    result = distill(graph, dict(type=Mine, epochs=60), method, student=student, setting="tran")
    assert result.metrics["student"]["tran"] > 0.8


def test_what_a_network_returns_beside_its_logits_is_a_hidden_layer(graph: Graph) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(x).relu()
            return self.head(hidden), hidden

    network = Both().eval()
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    found = train_teacher(view, dict(module=network, taps=[":1"])).cache
    with torch.no_grad():
        expected = network(graph.x.to_dense(), graph.edge_index)[1]
    torch.testing.assert_close(torch.as_tensor(found.hidden[0]), expected)  # type: ignore[union-attr]


def test_a_scripted_module_takes_no_taps() -> None:
    with pytest.raises(TypeError, match=r"a scripted module, Sequential, takes no taps"):
        with_taps(torch.jit.script(nn.Sequential(nn.Linear(2, 2))), ["0"])
