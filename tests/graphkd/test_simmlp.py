"""SimMLP: its parts by hand, what it never reads, what it leaves as it was, and that it learns."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.sparse import coo_array, diags_array, eye_array
from torch import Tensor, nn

from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.networks.rebuilt import Residual
from graphkd.recipes import simmlp
from graphkd.recipes.simmlp import alignment, thinned
from graphkd.sparse.edges import by_target, smoother
from graphkd.sparse.rows import masked
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train

CONTRACT = RecipeContract(
    "simmlp",
    options=dict(epochs=20),
    undrawn=dict(epochs=10, feature_mask=0.0, edge_mask=0.0, rebuild=0.0),
    no_control="it starts from a body that edges have trained, whatever comes after",
    learns_less="no teacher",
    short=dict(epochs=2),
)

NODES = 50


def lesson_of(setting: Setting, epochs: int = 0, batch_size: int | None = None) -> Lesson:
    """No teacher, and so many epochs after the first part, with seeds of its own."""
    seen, generator = setting.seen, torch.Generator().manual_seed(0)
    labels = torch.full((len(seen),), -1).index_copy(0, setting.train, seen.y[setting.train])
    loop = functools.partial(train, schedule=Schedule(epochs=epochs), generator=generator)
    return Lesson(seen.x, labels, loop, generator, None, seen.edge_index, batch_size)


def taught(lesson: Lesson, hidden: tuple[int, ...] = (48,), **options: Any) -> tuple[MLP, History]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Residual(64, hidden, 10, norm="batch")
        history = simmlp(model, lesson, **{**dict(epochs=3), **options})
    return model, history


def some_edges(directed: bool = True) -> Tensor:
    edges = torch.randint(NODES - 1, (2, 200), generator=torch.Generator().manual_seed(0))
    edges = edges[:, edges[0] != edges[1]].unique(dim=1)
    return edges if directed else torch.cat([edges, edges.flip(0)], 1).unique(dim=1)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_propagation_is_a_power_of_the_normalised_adjacency(hops: int, directed: bool) -> None:
    edges = some_edges(directed)
    z = torch.randn(NODES, 4, dtype=torch.float64, requires_grad=True)
    source, target = edges.numpy()
    looped = coo_array((np.ones(len(source)), (target, source)), (NODES, NODES)) + eye_array(NODES)
    scale = diags_array(looped.sum(1) ** -0.5)
    power = np.linalg.matrix_power((scale @ looped @ scale).toarray(), hops)
    hop, found = smoother(*by_target(edges, NODES), torch.float64), z
    for _ in range(hops):
        found = hop(found)
    np.testing.assert_allclose(found.detach().numpy(), power @ z.detach().numpy(), rtol=1e-10)
    cotangent = torch.randn_like(found)
    (gradient,) = torch.autograd.grad(found, z, cotangent)
    np.testing.assert_allclose(gradient.numpy(), power.T @ cotangent.numpy(), rtol=1e-10)


def test_without_edges_a_node_propagates_to_itself() -> None:
    z = torch.randn(NODES, 4)
    assert torch.equal(smoother(*by_target(some_edges()[:, :0], NODES))(z), z)


def test_a_smoother_is_on_the_device_of_its_edges() -> None:
    smoother(*(part.to("meta") for part in by_target(some_edges(), NODES)))  # else it is no matrix


def normalised(h: np.ndarray, norm: nn.Module) -> np.ndarray:
    """A batch normalisation in training, by hand."""
    scaled = (h - h.mean(0)) / np.sqrt(h.var(0) + norm.eps)
    return scaled * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()


def linear(h: np.ndarray, layer: nn.Module) -> np.ndarray:
    return h @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def prelu(h: np.ndarray, layer: nn.Module) -> np.ndarray:
    return np.where(h > 0, h, layer.weight.item() * h)


def encoded(x: np.ndarray, model: Residual) -> np.ndarray:
    """The released encoder in training: BN and PReLU, sums from the second layer on, rows of length 1."""
    for place, (layer, norm) in enumerate(zip(list(model.layers)[:-1], model.norms)):
        before, x = x, normalised(linear(x, layer), norm)
        if place < len(model.norms) - 1:
            x = prelu(x, model.slope)
        if place:
            x = x + before
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("predictor", [1, 2])
def test_the_loss_of_a_step_as_released(setting: Setting, monkeypatch: pytest.MonkeyPatch, predictor: int) -> None:
    """Encoder, hops with PReLU and BN, predictor and decoder in NumPy, on a graph of 50 nodes."""
    kept: list[Any] = []

    def keep(parts: nn.ModuleList, loss: Any, count: int, **options: Any) -> History:
        assert options["falling"]
        kept.extend((parts, loss))
        return History()

    monkeypatch.setitem(simmlp.__globals__, "train", keep)
    x, edges = torch.rand(NODES, 20, dtype=torch.float64), some_edges()
    labels = torch.arange(NODES) % 4
    lesson = Lesson(x, labels, lambda *_: History(), torch.Generator(), edge_index=edges)
    torch.manual_seed(0)
    model = Residual(20, (8, 8, 8), 4, norm="batch").double()
    options = dict(hops=2, feature_mask=0.0, edge_mask=0.0, rebuild=10.0, power=3.0, predictor=predictor)
    simmlp(model, lesson, **options)
    parts, loss = kept
    _, predict, decode, slope, norms = parts
    with torch.no_grad():
        for parameter in parts.parameters():  # that all of them count
            parameter += 0.3 * torch.rand_like(parameter)
    model.train()
    value = loss(slice(None))

    z = encoded(x.numpy(), model)
    source, target = edges.numpy()
    looped = coo_array((np.ones(len(source)), (target, source)), (NODES, NODES)) + eye_array(NODES)
    scale = diags_array(looped.sum(1) ** -0.5)
    h = z
    for norm in norms:
        h = normalised(prelu((scale @ looped @ scale) @ h, slope), norm)
    first, *rest = predict
    q = linear(z, first)
    if predictor == 2:
        norm, turn, second, last = rest
        q = normalised(linear(prelu(normalised(q, norm), turn), second), last)
    cosine = (q * h).sum(1) / np.linalg.norm(q, axis=1) / np.linalg.norm(h, axis=1)
    d = linear(prelu(linear(h, decode[0]), decode[1]), decode[2])
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    expected = ((1 - cosine) ** 3).mean() + 10 * ((d - x.numpy()) ** 2).mean()
    assert value.item() == pytest.approx(expected, rel=1e-8)
    value.backward()
    assert all(parameter.grad is not None for parameter in norms.parameters())


def test_hops_learn_from_what_is_rebuilt_alone(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    for rebuild in (0.0, 1.0):
        kept: list[Any] = []
        monkeypatch.setitem(simmlp.__globals__, "train", lambda *each, **_: kept.extend(each) or History())  # noqa: B023
        taught(lesson_of(setting), rebuild=rebuild)
        (_, _, _, slope, norms), loss, _ = kept
        loss(slice(None)).backward()
        reached = [parameter.grad is not None for part in (slope, norms) for parameter in part.parameters()]
        assert reached == [rebuild > 0] * 5


def test_the_rate_falls_along_a_cosine() -> None:
    """Step by step that of AdamW with the scheduler of PyTorch."""
    networks = [nn.Linear(3, 2) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(10, 3)
    train(networks[0], lambda nodes: networks[0](x).square().mean(), 10, schedule=Schedule(0.1, 0.2, 20), falling=True)
    optimiser = torch.optim.AdamW(networks[1].parameters(), lr=0.1, weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda e: (1 + np.cos(e * np.pi / 20)) * 0.5)
    for _ in range(20):
        optimiser.zero_grad()
        networks[1](x).square().mean().backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight)


def test_before_it_encodes_the_student_is_the_mlp() -> None:
    networks = []
    for kind in (MLP, Residual):
        torch.manual_seed(0)
        networks.append(kind(6, (5,), 3, norm="batch").eval())
    plain, residual = networks
    x = torch.randn(20, 6)
    assert torch.equal(plain(x), residual(x))
    residual.encode()
    *_, z, logits = residual.outputs(x)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(logits, residual.layers[-1](z))


@pytest.mark.parametrize("plain", [True, False])
def test_it_is_read_back_as_it_was(setting: Setting, tmp_path: Path, plain: bool) -> None:
    method = dict(type="simmlp", epochs=3, plain=plain, method="glnn")
    student = StudentClassifier((16, 16), epochs=5, norm="batch", method=method, random_state=0)
    seen = setting.seen
    labelled = dict(labelled=setting.train, edge_index=seen.edge_index)
    student.fit(seen.x, seen.y, teacher=torch.randn(len(seen), 10), **labelled)
    student.save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    assert (again.network_.slope is None) == plain
    np.testing.assert_array_equal(again.predict_proba(seen.x), student.predict_proba(seen.x))


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_alignment(power: float) -> None:
    p, t = (torch.randn(20, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    a, b = p.detach().numpy(), t.detach().numpy()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    value = alignment(p, t, power)
    assert value.item() == pytest.approx(float(np.mean((1 - cosine) ** power)), rel=1e-12)
    value.backward()
    assert p.grad is not None
    assert t.grad is None
    assert alignment(p, 5 * p, power).item() == pytest.approx(0, abs=1e-12)
    assert alignment(p, -p, power).item() == pytest.approx(2**power)


@pytest.mark.parametrize("sparse", [False, True])
def test_masked_features_are_as_they_were_or_0(sparse: bool) -> None:
    x = torch.randn(300, 100) * (torch.rand(300, 100) < 0.3)
    given = x.to_sparse_csr() if sparse else x
    generator = torch.Generator().manual_seed(0)
    one, two = (masked(given, 0.4, generator) for _ in range(2))
    assert one.layout == given.layout
    found = one.to_dense()
    assert ((found == x) | (found == 0)).all()
    assert found.count_nonzero() / x.count_nonzero() == pytest.approx(0.6, abs=0.03)
    assert not torch.equal(found, two.to_dense())
    assert masked(given, 0.0, generator) is given


def test_thinned_edges_are_some_of_the_edges() -> None:
    crow, source = by_target(some_edges(), NODES)
    generator = torch.Generator().manual_seed(0)
    true = {*zip(source.tolist(), torch.arange(NODES).repeat_interleave(crow.diff()).tolist())}
    fewer, left = thinned(crow, source, 0.3, generator)
    kept = [*zip(left.tolist(), torch.arange(NODES).repeat_interleave(fewer.diff()).tolist())]
    assert {*kept} < true
    assert len({*kept}) == len(kept)
    assert len(kept) / len(true) == pytest.approx(0.7, abs=0.1)
    assert thinned(crow, source, 0.0, generator)[1] is source


@pytest.mark.parametrize("batch_size", [None, 300])
def test_the_body_knows_neither_labels_nor_teacher(setting: Setting, batch_size: int | None) -> None:
    lesson = lesson_of(setting, 2, batch_size)
    body = {key: value for key, value in taught(lesson)[0].state_dict().items() if "layers.1" not in key}
    others = (
        replace(lesson_of(setting, 2, batch_size), labels=lesson.labels.flip(0)),
        replace(lesson_of(setting, 2, batch_size), teacher=torch.randn(len(lesson), 10)),
    )
    for other in others:
        again = taught(other)[0].state_dict()
        assert all(torch.equal(value, again[key]) for key, value in body.items())
    elsewhere = replace(lesson_of(setting, 2, batch_size), edge_index=lesson.edges()[:, :2000])
    assert not torch.equal(taught(elsewhere)[0].layers[0].weight, body["layers.0.weight"])


def test_the_probe_moves_the_last_layer_alone(setting: Setting) -> None:
    before, after = (taught(lesson_of(setting, epochs))[0].state_dict() for epochs in (0, 5))
    for key, value in before.items():
        assert torch.equal(value, after[key]) == ("layers.1" not in key), key


def test_sparse_features_are_dense_ones(setting: Setting) -> None:
    dense = lesson_of(setting)
    sparse = replace(lesson_of(setting), x=setting.seen.x.to_sparse_csr())
    one, two = (taught(each, feature_mask=0.0, epochs=2)[0] for each in (dense, sparse))
    torch.testing.assert_close(one.layers[0].weight, two.layers[0].weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("batch_size", [None, 600])
def test_it_learns_from_the_edges(setting: Setting, batch_size: int | None, plain: bool) -> None:
    whole, accuracy = setting.whole, {}
    for epochs in (0, 25):
        lesson = lesson_of(setting, 100, batch_size)
        model, history = taught(lesson, epochs=epochs, lr=0.005, plain=plain)
        answers = lesson.predict(model, setting.test).argmax(1)
        accuracy[epochs] = (answers == whole.y[setting.test]).double().mean().item()
        assert len(history.seconds) == epochs + 100
    assert accuracy[25] > accuracy[0] + 0.01


def test_another_method_goes_on_from_the_body(setting: Setting) -> None:
    seen: list[MLP] = []

    def method(model: MLP, lesson: Lesson) -> History:
        seen.append(copy.deepcopy(model))
        return History()

    model, _ = taught(lesson_of(setting), method=method)
    assert torch.equal(seen[0].layers[0].weight, taught(lesson_of(setting))[0].layers[0].weight)
    assert torch.equal(seen[0].layers[0].weight, model.layers[0].weight)


def test_errors_come_before_training(setting: Setting) -> None:
    lesson = lesson_of(setting)
    with pytest.raises(ValueError, match="a hidden layer"):
        simmlp(Residual(64, (), 10), lesson)
    with pytest.raises(ValueError, match="edge_index=edges"):
        taught(replace(lesson, edge_index=None))
    with pytest.raises(ValueError, match="trained on labels"):
        taught(replace(lesson, labels=torch.full_like(lesson.labels, -1)))
    with pytest.raises(KeyError, match="glnn"):
        taught(lesson, method="glnm")
    for wrong in (
        dict(feature_mask=1.0),
        dict(edge_mask=-0.1),
        dict(hops=-1),
        dict(power=0.0),
        dict(fan=0),
        dict(probe=0.0),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            taught(lesson, **wrong)
