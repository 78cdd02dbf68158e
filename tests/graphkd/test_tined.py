"""TINED: what it takes from its teacher, what its pairs are, and what its energies are by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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
from graphkd.networks.rebuilt import Paired
from graphkd.recipes import tined
from graphkd.recipes.tined import fitted_layers, folded, inject, teacher_energies, teacher_layers
from graphkd.sparse.edges import lower_first
from graphkd.teachers import gat, gcn, sage
from graphkd.teachers.gnn import GNN
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train

CONTRACT = RecipeContract(
    "tined",
    options=dict(energy=0.0),
    undrawn=dict(energy=0.0),
    short=dict(energy=0.0),
    learns_less="dropout between maps as narrow as there are classes",
)

NODES, WIDTHS = 40, (6, 5, 3)
WIDER = (4, 5, 3)  # the first layer propagates first


def random_graph(width: int = WIDTHS[0]) -> tuple[Tensor, Tensor]:
    """Features and edges of 40 nodes in double precision, the last of them without an edge."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(NODES, width, generator=generator, dtype=torch.float64)
    return x, torch.randint(NODES - 1, (2, 150), generator=generator).unique(dim=1)


def network_of(kind: Any, widths: tuple[int, ...] = WIDTHS) -> GNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = kind(widths[0], widths[2], hidden=widths[1], dropout=0.0).double().eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter)  # PyG starts biases at 0
    return network.requires_grad_(False)


def lesson_of(
    kind: Any,
    steps: list[Tensor] | None = None,
    nodes: Tensor | slice = slice(None),
    widths: tuple[int, ...] = WIDTHS,
    epochs: int | None = None,
) -> Lesson:
    """What a real teacher leaves; its training keeps the first loss, on these nodes, or is a real one."""
    (x, edges), network = random_graph(widths[0]), network_of(kind, widths)
    *hidden, logits = network.outputs(x, edges)
    generator = torch.Generator().manual_seed(2)

    def once(model: nn.Module, loss: Any, count: int) -> History:
        if epochs is not None:
            return train(model, loss, count, schedule=Schedule(epochs=epochs), generator=generator)
        if steps is not None:
            steps.append(loss(nodes).detach())
        return History()

    labels = torch.full((NODES,), -1)
    labels[:4] = torch.tensor([0, 1, 2, 0])
    return Lesson(x, labels, once, generator, logits, edges, hidden=hidden, params=network.state_dict())


def student(widths: tuple[int, ...] = WIDTHS) -> Paired:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Paired(widths[0], widths[1:2], widths[2]).double()


def energy_by_hand(features: Tensor, edges: Tensor) -> float:
    h = features.detach().numpy()
    lengths = np.linalg.norm(h, axis=1, keepdims=True)
    h = h / np.where(lengths == 0, 1, lengths)  # what ReLU leaves nothing of
    return float(np.mean([np.sum((h[i] - h[j]) ** 2) for i, j in edges.T]))


def test_energy() -> None:
    h, edges = random_graph()
    h.requires_grad_()
    assert dirichlet_energy(h, edges).item() == pytest.approx(energy_by_hand(h, edges), rel=1e-12)
    scale = torch.rand(NODES, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(dirichlet_energy(scale * h, edges), dirichlet_energy(h, edges))
    assert dirichlet_energy(scale * h[:1], edges).item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(lambda each: dirichlet_energy(each, edges), h)
    fixed = dirichlet_energy(h, edges, fixed_lengths=True)
    assert fixed.item() == pytest.approx(energy_by_hand(h, edges), rel=1e-12)
    lengths = h.detach().norm(dim=1, keepdim=True)
    (gradient,) = torch.autograd.grad(fixed, h)
    ends = h.detach() / lengths
    by_hand = np.zeros(h.shape)
    for i, j in edges.T.tolist():
        for one, other in ((i, j), (j, i)):
            by_hand[one] += 2 / edges.shape[1] * ((ends[one] - ends[other]) / lengths[one]).numpy()
    np.testing.assert_allclose(gradient.numpy(), by_hand, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", [sage, gcn])
def test_with_the_true_propagation_the_layers_are_the_teacher(kind: Any) -> None:
    x, edges = random_graph()
    lesson = lesson_of(kind)
    first, last = teacher_layers(lesson.params)
    hidden = (first.propagate(x @ first.weight.T + first.bias, edges) + first.after).relu()
    torch.testing.assert_close(hidden, lesson.hidden[0])
    told = last.propagate(hidden @ last.weight.T + last.bias, edges) + last.after
    torch.testing.assert_close(told, lesson.teacher)
    swapped = last.propagate(hidden, edges) @ last.weight.T + last.bias + last.after
    torch.testing.assert_close(swapped, lesson.teacher)


def operations(kind: Any, widths: tuple[int, ...], true: bool) -> tuple[np.ndarray, np.ndarray]:
    """Energies before and after each operation, in NumPy; of the teacher, or of a student with no propagation."""
    (x, edges), network = random_graph(widths[0]), network_of(kind, widths)
    reach = np.eye(NODES)
    reach[edges[1], edges[0]] = 1  # a self-loop that is there counts once for gcn
    looped = np.eye(NODES)
    np.add.at(looped, (edges[1].numpy(), edges[0].numpy()), 1)
    scale = 1 / np.sqrt(reach.sum(1))
    spread = looped / looped.sum(1, keepdims=True) if kind is sage else scale[:, None] * reach * scale
    given, found = x.numpy(), []
    for layer in network.layers:
        inner = layer.linear if kind is sage else layer.lin
        weight = inner.weight.numpy()
        bias = (inner.bias if kind is sage else layer.bias).numpy()

        def transform(h: np.ndarray, weight: np.ndarray = weight, bias: np.ndarray = bias, add: bool = True) -> Any:
            return h @ weight.T + (bias if add else 0)

        first = weight.shape[1] <= weight.shape[0]
        if true:
            late = kind is gcn and not first  # it adds its bias after it has propagated
            middle = spread @ given if first else transform(given, add=not late)
            out = transform(middle) if first else spread @ middle + (bias if late else 0)
            found += [given, middle, middle, out]
        else:
            middle = given if first else transform(given)
            passed = np.maximum(middle, 0)  # between the maps of a pair, too
            out = transform(passed) if first else passed
            found += [given, middle, passed, out]
        given = np.maximum(out, 0)
    return np.array([energy_by_hand(torch.from_numpy(each), edges) for each in found]), out


@pytest.mark.parametrize("widths", [WIDTHS, WIDER])
@pytest.mark.parametrize("kind", [sage, gcn])
def test_energies_of_the_teacher(kind: Any, widths: tuple[int, ...]) -> None:
    lesson = lesson_of(kind, widths=widths)
    told = teacher_energies(teacher_layers(lesson.params), lesson)
    expected, out = operations(kind, widths, true=True)
    np.testing.assert_allclose(lesson.teacher, out, rtol=1e-10)
    np.testing.assert_allclose(told.numpy(), expected, rtol=1e-10)
    sparse = replace(lesson, x=random_graph(widths[0])[0].to_sparse_csr())
    torch.testing.assert_close(teacher_energies(teacher_layers(lesson.params), sparse), told)


def steps(kind: Any, nodes: Tensor | slice = slice(None), widths: tuple[int, ...] = WIDTHS, **options: Any) -> Tensor:
    found: list[Tensor] = []
    tined(student(widths), lesson_of(kind, found, nodes, widths), **options)
    return found[0]


@pytest.mark.parametrize("widths", [WIDTHS, WIDER])
@pytest.mark.parametrize("form", ["log", "exp"])
@pytest.mark.parametrize("kind", [sage, gcn])
def test_the_first_step_by_hand(kind: Any, form: Any, widths: tuple[int, ...]) -> None:
    def changes(energies: np.ndarray) -> np.ndarray:
        after, before = energies[1::2], energies[::2]
        return np.log(after / before) / 2 if form == "log" else np.sqrt(after / before)

    told, _ = operations(kind, widths, true=True)
    seen, logits = operations(kind, widths, true=False)
    expected = 0.7 * ((changes(seen) - changes(told)) ** 2).sum()
    alone = steps(kind, widths=widths, energy=0.0)
    assert (steps(kind, widths=widths, energy=0.7, form=form) - alone).item() == pytest.approx(expected, rel=1e-6)
    x, p = torch.from_numpy(logits), torch.as_tensor(lesson_of(kind, widths=widths).teacher).softmax(1)
    divergence = (p * (p.log() - x.log_softmax(1))).sum(1)
    torch.testing.assert_close(alone, divergence.mean())
    part = torch.arange(10)
    torch.testing.assert_close(steps(kind, part, widths, energy=0.0), divergence[part].mean())
    in_part = steps(kind, part, widths, energy=0.7, form=form, rate=4.0) - divergence[part].mean()
    assert in_part.item() == pytest.approx(expected, rel=1e-6)  # a quarter of the nodes, four times the edges
    hard = nn.functional.cross_entropy(x[:4], torch.tensor([0, 1, 2, 0]))  # lam weighs labels against KL alone
    mixed = steps(kind, widths=widths, energy=0.7, form=form, lam=0.3)
    assert mixed.item() == pytest.approx(0.3 * hard.item() + 0.7 * divergence.mean().item() + expected, rel=1e-6)


def test_edges_both_ways_are_counted_once() -> None:
    lesson, steps = lesson_of(sage), []
    both = lower_first(torch.cat([lesson.edges(), lesson.edges().flip(0)], 1).unique(dim=1))
    for edges in (both, torch.cat([both, both.flip(0)], 1)):
        found: list[Tensor] = []
        told = replace(lesson_of(sage, found), edge_index=edges)
        goal = replace(told, edge_index=torch.cat([both, both.flip(0)], 1))
        with pytest.MonkeyPatch.context() as patch:  # the teacher has seen both ways in either case
            energies = teacher_energies(teacher_layers(lesson.params), goal)
            patch.setitem(tined.__globals__, "teacher_energies", lambda *_: energies)  # noqa: B023
            tined(student(), told, energy=1.0)
        steps += found
    assert steps[0].item() == pytest.approx(steps[1].item(), rel=1e-12)


def test_half_of_the_edges_are_an_estimate_of_all() -> None:
    whole, alone = steps(sage, energy=1.0), steps(sage, energy=0.0)
    assert abs(steps(sage, energy=1.0, rate=0.5) - whole) < 0.5 * (whole - alone)
    assert steps(sage, energy=1.0, rate=0.5) != whole


@pytest.mark.parametrize("kind", [sage, gcn])
def test_a_student_without_training_is_the_teacher_without_edges(kind: Any) -> None:
    """Folded it is just that; as released, ReLU within the pairs comes on top."""
    x, network = random_graph()[0], network_of(kind)
    alone = network(x, torch.empty(2, 0, dtype=torch.long))
    model = student()
    tined(model, lesson_of(kind), fold=True)
    torch.testing.assert_close(model(x), alone)
    assert [tuple(layer.weight.shape) for layer in model.layers] == [(5, 6), (3, 5)]
    deep = student()
    tined(deep, lesson_of(kind))
    assert [tuple(layer.weight.shape) for layer in deep.layers] == [(5, 6), (5, 5), (3, 5), (3, 3)]
    torch.testing.assert_close(deep(x), alone.relu())


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_what_is_between_the_maps(norm: Any) -> None:
    torch.manual_seed(0)
    model = Paired(6, (5,), 3, dropout=0.5, norm=norm).double()
    inject(model, teacher_layers(lesson_of(sage).params), 1.0, "random", fold=False)
    assert len(model.norms) == 3
    x = random_graph()[0]
    passes = model.eval().passes(x)
    torch.testing.assert_close(passes[-1][1], model(x))
    for (_, out), (given, _), activated, layer in zip(passes, passes[1:], model.outputs(x), model.norms):
        torch.testing.assert_close(given, layer(out).relu())
        torch.testing.assert_close(given, activated)
    passes = model.train().passes(x)
    assert all((given == 0).double().mean() > 0.6 for given, _ in passes[1:])  # half of the positive ones, too


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_bare_pair_folds_into_one_layer(norm: Any) -> None:
    torch.manual_seed(0)
    model, x = Paired(4, (5,), 3, dropout=0.5, norm=norm).double(), random_graph(4)[0]
    inject(model, teacher_layers(lesson_of(sage, widths=WIDER).params), 1.0, "random", fold=True)
    model.train().passes(x)  # moves what a batch normalisation has seen
    told = model.eval().passes(x)[-1][1]
    torch.testing.assert_close(model(x), told)  # as epochs are judged
    folded(model)
    torch.testing.assert_close(model(x), told)
    assert len(model.layers) == 2
    assert not model.training


@pytest.mark.parametrize("pace", [0.01, 3.0])
def test_pace_is_a_group_of_the_optimiser(pace: float) -> None:
    model, lesson = student(), lesson_of(sage, epochs=30)
    tined(model, lesson, pace=pace, energy=0.0)
    plain, layers = student(), teacher_layers(lesson.params)
    inject(plain, layers, 1.0, "identity", fold=False)
    taught, mixed = plain.layers[::2], plain.layers[1::2]
    groups = [dict(params=taught.parameters(), lr=0.01 * pace), dict(params=mixed.parameters())]
    optimiser = torch.optim.Adam(groups, lr=0.01, weight_decay=5e-4)
    p = torch.as_tensor(lesson.teacher).softmax(1)
    for _ in range(30):
        optimiser.zero_grad()
        (p * (p.log() - plain(lesson.x).log_softmax(1))).sum(1).mean().backward()
        optimiser.step()
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)
    assert (plain.layers[0].weight - layers[0].weight).abs().max() > 0.1 * pace


def test_the_energy_makes_operations_smooth_as_the_teachers_do() -> None:
    (x, edges), lesson = random_graph(), lesson_of(sage)
    goal = teacher_energies(teacher_layers(lesson.params), lesson).view(-1, 2).log().diff(dim=1).flatten()
    apart = {}
    for energy in (0.0, 1.0):
        model = student()
        tined(model, lesson_of(sage, epochs=150), energy=energy)
        with torch.no_grad():
            found = [[dirichlet_energy(each, edges) for each in pair] for pair in model.passes(x)]
        apart[energy] = (torch.tensor(found).log().diff(dim=1).flatten() - goal).square().mean()
    assert apart[1.0] < 0.3 * apart[0.0]


def test_of_any_teacher_the_layers_are_fitted() -> None:
    """The last layer of a sage is linear in what it reads, so that the fit is the layer."""
    lesson = lesson_of(sage)
    (*_, fitted), (*_, true) = fitted_layers(lesson), teacher_layers(lesson.params)
    given = lesson.hidden[-1]
    one, two = (
        layer.propagate(nn.functional.linear(given, layer.weight, layer.bias), lesson.edges()) + layer.after
        for layer in (fitted, true)
    )
    torch.testing.assert_close(one, two, atol=0.02 * float(two.abs().max()), rtol=0)


def test_errors_come_before_training() -> None:
    lesson = lesson_of(sage)
    with pytest.raises(ValueError, match=r"hidden=\[7\], the teacher \[5\]"):
        tined(Paired(6, (7,), 3).double(), lesson)
    with pytest.raises(ValueError, match=r"is a graphkd\.networks\.rebuilt\.Paired, not a MLP"):
        tined(MLP(6, (5,), 3).double(), lesson)  # type: ignore[arg-type]
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
def test_it_learns_from_its_teacher_and_is_read_back(kind: str, tmp_path: Path) -> None:
    graph = digits()
    quick = StudentClassifier(hidden=(32,), dropout=0.2, epochs=60, batch_size=600 if kind == "gcn" else None)
    teacher = dict(type=kind, hidden=32, dropout=0.2, epochs=60, lr=0.02)
    method = dict(type="tined", rate=0.3, fold=kind == "gcn")
    result = distill(graph, teacher, method, student=quick, setting="tran")
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"] + 0.01
    assert len(result.student.network_.layers) == (2 if kind == "gcn" else 4)
    result.student.save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    np.testing.assert_array_equal(again.predict_proba(graph.x), result.student.predict_proba(graph.x))


def test_a_file_of_a_plain_student_is_read_still(tmp_path: Path) -> None:
    """As students of this method were plain once."""
    x = random_graph()[0].float()
    student = StudentClassifier((5,), epochs=2, method="tined", random_state=0).fit(x, torch.arange(NODES) % 3)
    student.network_ = MLP(6, (5,), 3).eval()
    student.save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    assert type(again.network_) is MLP
    np.testing.assert_array_equal(again.predict_proba(x), student.predict_proba(x))
