"""TINED: what it takes from its teacher, what its pairs are, and what its energies are by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from torch import Tensor, nn

from graphkd import StudentClassifier, distill
from graphkd.data import digits
from graphkd.losses.dirichlet import dirichlet_energy
from graphkd.networks.mlp import MLP
from graphkd.recipes import tined
from graphkd.recipes.tined import Layer, Pair, fitted_layers, teacher_energies, teacher_layers
from graphkd.sparse.rows import rows
from graphkd.teachers import gat, gcn, sage
from graphkd.teachers.gnn import GNN
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = RecipeContract("tined", options=dict(energy=0.0), undrawn=dict(energy=0.0), short=dict(energy=0.0))

NODES, WIDTHS = 40, (6, 5, 3)


def random_graph() -> tuple[Tensor, Tensor]:
    """Features and edges of 40 nodes in double precision, the last of them without an edge."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(NODES, WIDTHS[0], generator=generator, dtype=torch.float64)
    return x, torch.randint(NODES - 1, (2, 150), generator=generator).unique(dim=1)


def network_of(kind: Any) -> GNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = kind(WIDTHS[0], WIDTHS[2], hidden=WIDTHS[1], dropout=0.0).double().eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter)  # PyG starts biases at 0
    return network.requires_grad_(False)


def lesson_of(kind: Any, steps: list[Tensor] | None = None, nodes: Tensor | slice = slice(None)) -> Lesson:
    """What a real teacher leaves; its training keeps the first loss, on these nodes."""
    (x, edges), network = random_graph(), network_of(kind)
    *hidden, logits = network.outputs(x, edges)

    def train(model: nn.Module, loss: Any, count: int) -> History:
        if steps is not None:
            steps.append(loss(nodes).detach())
        return History()

    unknown = torch.full((NODES,), -1)
    generator = torch.Generator().manual_seed(2)
    return Lesson(x, unknown, train, generator, logits, edges, hidden=hidden, params=network.state_dict())


def student() -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return MLP(WIDTHS[0], WIDTHS[1:2], WIDTHS[2]).double()


def energy_by_hand(features: Tensor, edges: Tensor) -> float:
    h = features.detach().numpy()
    return float(
        np.mean([np.sum((h[i] / np.linalg.norm(h[i]) - h[j] / np.linalg.norm(h[j])) ** 2) for i, j in edges.T])
    )


def test_energy() -> None:
    h, edges = random_graph()
    h.requires_grad_()
    assert dirichlet_energy(h, edges).item() == pytest.approx(energy_by_hand(h, edges), rel=1e-12)
    scale = torch.rand(NODES, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(dirichlet_energy(scale * h, edges), dirichlet_energy(h, edges))
    assert dirichlet_energy(scale * h[:1], edges).item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(lambda each: dirichlet_energy(each, edges), h)


@pytest.mark.parametrize("kind", [sage, gcn])
def test_with_the_true_propagation_the_layers_are_the_teacher(kind: Any) -> None:
    x, edges = random_graph()
    lesson = lesson_of(kind)
    first, last = teacher_layers(lesson.params)
    hidden = first.propagate(x @ first.weight.T + first.bias, edges).relu()
    torch.testing.assert_close(hidden, lesson.hidden[0])
    torch.testing.assert_close(last.propagate(hidden @ last.weight.T + last.bias, edges), lesson.teacher)


@pytest.mark.parametrize("kind", [sage, gcn])
def test_energies_of_the_teacher(kind: Any) -> None:
    x, edges = random_graph()
    network = network_of(kind)
    (hidden, _), found = network.outputs(x, edges), []
    for layer, given in zip(network.layers, (x, hidden)):
        between = layer.linear(given) if kind is sage else layer.lin(given)
        found += [energy_by_hand(each, edges) for each in (given, between, layer(given, edges))]
    lesson = lesson_of(kind)
    told = teacher_energies(teacher_layers(lesson.params), lesson)
    np.testing.assert_allclose(told.numpy(), found, rtol=1e-10)
    sparse = replace(lesson, x=x.to_sparse_csr())
    torch.testing.assert_close(teacher_energies(teacher_layers(lesson.params), sparse), told)


def steps(kind: Any, nodes: Tensor | slice = slice(None), **options: Any) -> Tensor:
    found: list[Tensor] = []
    tined(student(), lesson_of(kind, found, nodes), **options)
    return found[0]


@pytest.mark.parametrize("form", ["log", "exp"])
@pytest.mark.parametrize("kind", [sage, gcn])
def test_the_first_step_by_hand(kind: Any, form: Any) -> None:
    # identity in the place of each propagation: the student is the teacher on a graph without edges
    lesson = lesson_of(kind)
    (x, edges), layers, seen = random_graph(), teacher_layers(lesson.params), []
    for place, layer in enumerate(layers):
        between = x @ layer.weight.T + layer.bias
        out = between + layer.after
        seen += [energy_by_hand(each, edges) for each in (x, between, out)]
        x = out.relu() if place < len(layers) - 1 else out
    told = teacher_energies(layers, lesson).numpy()

    def ratios(energies: np.ndarray) -> np.ndarray:
        logs = np.diff(np.log(energies.reshape(2, 3)), axis=1)
        return logs if form == "log" else np.exp(logs)

    expected = 0.7 * ((ratios(np.array(seen)) - ratios(told)) ** 2).sum()
    alone = steps(kind, energy=0.0)
    assert (steps(kind, energy=0.7, form=form) - alone).item() == pytest.approx(expected, rel=1e-6)
    p = torch.as_tensor(lesson.teacher).softmax(1)
    divergence = (p * (p.log() - x.log_softmax(1))).sum(1)
    torch.testing.assert_close(alone, divergence.mean())
    part = torch.arange(10)
    torch.testing.assert_close(steps(kind, part, energy=0.0), divergence[part].mean())
    in_part = steps(kind, part, energy=0.7, form=form, rate=4.0) - divergence[part].mean()
    assert in_part.item() == pytest.approx(expected, rel=1e-6)  # a quarter of the nodes, four times the edges


def test_half_of_the_edges_are_an_estimate_of_all() -> None:
    whole, alone = steps(sage), steps(sage, energy=0.0)
    assert abs(steps(sage, rate=0.5) - whole) < 0.5 * (whole - alone)
    assert steps(sage, rate=0.5) != whole


def test_without_training_the_student_is_the_teacher_without_edges() -> None:
    for kind in (sage, gcn):
        model, lesson = student(), lesson_of(kind)
        tined(model, lesson)
        x, network = rows(lesson.x), network_of(kind)
        alone = network(x, torch.empty(2, 0, dtype=torch.long))
        torch.testing.assert_close(model(x), alone)
        assert all(type(layer) is nn.Linear for layer in model.layers)


def layer_of(pace: float, start: str = "random") -> tuple[Layer, Pair]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        weight, bias, after = torch.randn(3, 5).double(), torch.randn(3).double(), torch.randn(3).double()
        layer = Layer(weight, bias, after, nn.Identity())
        return layer, Pair(layer, pace, start).double()


def test_a_pair_folds_into_one_layer() -> None:
    layer, pair = layer_of(0.3)
    linear, x = nn.Linear(5, 3).double(), random_graph()[0][:, :5]
    pair.fold_into(linear)
    torch.testing.assert_close(linear(x), pair(x))
    torch.testing.assert_close(pair.passed[1], x @ layer.weight.T + layer.bias)
    _, identity = layer_of(0.3, "identity")
    torch.testing.assert_close(identity(x), identity.passed[1] + layer.after)


@pytest.mark.parametrize("pace", [0.01, 3.0])
def test_pace_is_a_learning_rate_of_adam(pace: float) -> None:
    x, target = random_graph()[0][:, :5], torch.randn(NODES, 3, dtype=torch.float64)
    layer, pair = layer_of(pace)
    plain = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)).double()
    with torch.no_grad():
        for parameter, value in zip(plain.parameters(), (layer.weight, layer.bias, *pair.mix.parameters())):
            parameter.copy_(value)
    one = torch.optim.Adam(pair.parameters(), lr=0.01, weight_decay=0.05)
    groups = [dict(params=plain[0].parameters(), lr=0.01 * pace), dict(params=plain[1].parameters())]
    two = torch.optim.Adam(groups, lr=0.01, weight_decay=0.05)
    for network, optimiser in ((pair, one), (plain, two)):
        for _ in range(30):
            optimiser.zero_grad()
            nn.functional.mse_loss(network(x), target).backward()
            optimiser.step()
    torch.testing.assert_close(pace * pair.weight, plain[0].weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pair.mix.weight, plain[1].weight, rtol=1e-5, atol=1e-6)
    assert (plain[0].weight - layer.weight).abs().max() > 0.1 * pace


def test_of_any_teacher_the_layers_are_fitted() -> None:
    """The last layer of a sage is linear in what it reads, so that the fit is the layer."""
    lesson = lesson_of(sage)
    (*_, fitted), (*_, true) = fitted_layers(lesson), teacher_layers(lesson.params)
    given = lesson.hidden[-1]
    one, two = (
        layer.propagate(nn.functional.linear(given, layer.weight, layer.bias), lesson.edges())
        for layer in (fitted, true)
    )
    torch.testing.assert_close(one, two, atol=0.02 * float(two.abs().max()), rtol=0)


def test_errors_come_before_training() -> None:
    lesson = lesson_of(sage)
    with pytest.raises(ValueError, match=r"hidden=\[7\], the teacher \[5\]"):
        tined(MLP(6, (7,), 3).double(), lesson)
    with pytest.raises(ValueError, match="extras=\\['weights'\\]"):
        tined(student(), replace(lesson, params={}, hidden=()))
    other = gat(6, 3).state_dict()
    with pytest.raises(ValueError, match="a sage or a gcn"):
        tined(student(), replace(lesson, params=other, hidden=()))
    with pytest.raises(ValueError, match="hidden layers have"):
        tined(student(), replace(lesson, hidden=()))
    for wrong in (dict(pace=0.0), dict(rate=0.0), dict(energy=-1.0), dict(start="one"), dict(form="ln")):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            tined(student(), lesson, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sage", "gcn"])
def test_it_learns_from_its_teacher(kind: str) -> None:
    quick = StudentClassifier(hidden=(32,), dropout=0.2, epochs=60, batch_size=600 if kind == "gcn" else None)
    teacher = dict(type=kind, hidden=32, dropout=0.2, epochs=60, lr=0.02)
    result = distill(digits(), teacher, dict(type="tined", rate=0.3), student=quick, setting="tran")
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"] + 0.01
    assert {*result.student.network_.state_dict()} == {
        f"layers.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")
    }
