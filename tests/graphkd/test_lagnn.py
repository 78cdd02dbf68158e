"""Local augmentation: what the generator learns and which epoch is kept; a teacher and a student that read it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from torch import Tensor

from graphkd import Graph, StudentClassifier
from graphkd.data import Setting, cpf_split, digits, make_setting
from graphkd.networks.neighbours import Beside, NeighbourVAE, WithNeighbour
from graphkd.pipeline.sampled import check_sampled
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.sparse.rows import compact
from graphkd.teachers import TEACHERS
from graphkd.training.loop import rehearsal
from graphkd.training.neighbours import _Judge, fit_neighbours, generator_options
from graphkd.training.views import disagreement

SMALL: dict[str, Any] = dict(width=32, batch_size=256, epochs=3, passes=5)
QUICK: dict[str, Any] = dict(samples=1, consistency=0.0, generator=SMALL)
CONTRACT = RecipeContract(
    "lagnn",
    options=QUICK,
    undrawn=QUICK,
    short=QUICK,
    without_edges=QUICK,
    always_draws="its generator learns from the edges in an order that is drawn",
)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def world(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes with neighbours drawn around a known mean: features of all, edges, and of each node that mean."""
    own = torch.randn(300, 6, generator=draw(seed))
    mean = 2 * (own @ torch.randn(6, 6, generator=draw(9))).tanh()
    near = mean.repeat_interleave(6, 0) + 0.3 * torch.randn(1800, 6, generator=draw(seed + 1))
    edges = torch.stack([300 + torch.arange(1800), torch.arange(300).repeat_interleave(6)])
    return torch.cat([own, near]), edges, mean


# --- the generator ----------------------------------------------------------------------------------------------------


def test_it_learns_the_mean_of_the_neighbours_given_a_node() -> None:
    """Of nodes that it never saw: nearer to the true mean than the mean of all, and than the node itself."""
    torch.manual_seed(0)
    x, edges, _ = world()
    vae, _ = fit_neighbours(x, edges, generator=draw(), width=64, epochs=15, lr=0.003, batch_size=64)
    own, _, mean = world(5)
    own, everywhere = own[:300], x[300:].mean(0).expand(300, 6)
    missed = {
        name: (found - mean).square().mean().item()
        for name, found in dict(ours=vae.expected(own), all=everywhere, echo=own, drawn=vae.drawn(own)).items()
    }
    assert missed["ours"] < 0.2 * min(missed["all"], missed["echo"])
    assert missed["drawn"] < 0.3 * missed["all"]


def test_it_learns_which_neighbours_there_are_and_not_their_mean_alone() -> None:
    """Half of the neighbours lie at +m and half at -m: what is drawn lies at both, and not between."""
    torch.manual_seed(0)
    own = torch.zeros(200, 4)
    side = torch.randint(2, (2000, 1), generator=draw()).float() * 2 - 1
    x = torch.cat([own, 2 * side + 0.1 * torch.randn(2000, 4, generator=draw(1))])
    edges = torch.stack([200 + torch.arange(2000), torch.randint(200, (2000,), generator=draw(2))])
    vae, _ = fit_neighbours(x, edges, generator=draw(), width=32, latent=2, epochs=15, lr=0.005, batch_size=64)
    with torch.no_grad():
        found = vae.drawn(torch.zeros(500, 4)).mean(1)
    assert (found.abs() > 1.5).float().mean() > 0.6  # of a mean alone: none
    assert 0.25 < (found > 0).float().mean() < 0.75


@pytest.mark.parametrize("words", [True, False])
def test_its_loss_is_the_bound_typed_in_numpy(words: bool) -> None:
    torch.manual_seed(0)
    vae = NeighbourVAE(5, width=7, latent=3, words=words).double()
    near, own = torch.rand(9, 5).double(), torch.rand(9, 5).double()
    if not words:
        vae.centre, vae.scale = torch.randn(5).double(), torch.rand(5).double() + 0.5
        torch.nn.init.normal_(vae.log_deviation)
    w = {name: value.numpy() for name, value in vae.state_dict().items()}
    a, b = (((each.numpy() - w["centre"]) / w["scale"]) for each in (near, own))
    h = np.maximum(a @ w["encode_near.weight"].T + w["encode_near.bias"] + b @ w["encode_own.weight"].T, 0)
    moments = h @ w["moments.weight"].T + w["moments.bias"]
    mean, log_variance = moments[:, :3], moments[:, 3:]
    torch.manual_seed(1)
    z = mean + np.exp(log_variance / 2) * torch.randn(9, 3, dtype=torch.float64).numpy()
    h = np.maximum(z @ w["decode_z.weight"].T + w["decode_z.bias"] + b @ w["decode_own.weight"].T, 0)
    out = h @ w["output.weight"].T + w["output.bias"]
    if words:
        p = 1 / (1 + np.exp(-out))
        miss = -(a * np.log(p) + (1 - a) * np.log(1 - p))
    else:
        miss = 0.5 * ((out - a) / np.exp(w["log_deviation"])) ** 2 + w["log_deviation"]
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    torch.manual_seed(1)
    assert vae.loss(near, own).item() == pytest.approx((miss.sum(1) + kl.sum(1)).mean(), rel=1e-9)


def test_words_stay_words_sparse_or_dense_and_what_is_expected_depends_on_the_node_alone() -> None:
    torch.manual_seed(0)
    x = (torch.rand(60, 30, generator=draw()) < 0.05).float()
    edges = torch.randint(60, (2, 200), generator=draw())
    vae, _ = fit_neighbours(x, edges, generator=draw(), **SMALL)
    sparse = compact(x)
    assert sparse.layout is torch.sparse_csr
    for found in (vae.drawn(x), vae.expected(x)):
        assert 0 <= found.min() <= found.max() <= 1
    torch.testing.assert_close(vae.expected(sparse), vae.expected(x))
    torch.testing.assert_close(vae.expected(x[7:8]), vae.expected(x)[7:8])
    assert not torch.equal(vae.drawn(x), vae.drawn(x))


def test_the_epoch_is_kept_of_which_the_network_is_surest(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = digits()
    told, learned = iter([-0.4, -0.1, -0.3]), []
    monkeypatch.setattr(_Judge, "agreement", lambda self, x: next(told))
    monkeypatch.setattr(_Judge, "learn", lambda self, x, steps: learned.append(steps))
    options = dict(SMALL, epochs=4, batch_size=2048)
    _, history = fit_neighbours(graph.x, graph.edge_index, graph.y, draw(), **options)
    assert (history.best_epoch, history.score) == (2, -0.1)  # the first epoch is warm-up
    assert learned == [100, 20, 20]  # on the features, then on each that was the best so far
    _, history = fit_neighbours(graph.x, graph.edge_index, None, draw(), **options)
    assert (history.best_epoch, history.score) == (3, None)


def test_a_network_is_surer_of_neighbours_than_of_noise() -> None:
    torch.manual_seed(0)
    graph = digits()
    judge = _Judge(graph.x, graph.edge_index, graph.y, passes=20)
    noise = torch.rand(graph.x.shape, generator=draw())
    assert judge.agreement(noise) < judge.agreement(graph.x) < 0
    judge.passes = 1
    assert judge.agreement(noise) == pytest.approx(0, abs=1e-6)  # a single pass agrees with itself


def test_what_is_wrong_with_a_generator_is_named() -> None:
    x = torch.rand(5, 3)
    with pytest.raises(ValueError, match="edges between different nodes, and there are none"):
        fit_neighbours(x, torch.tensor([[1, 2], [1, 2]]))
    for given, message in (
        (dict(width=0), "width"),
        (dict(lr=-1.0), "lr"),
        (dict(draws=True), "draws"),
        (dict(epochs=2.5), "epochs"),
        (dict(wide=3), "no option 'wide'; did you mean 'width'"),
        (3, "generator is a dict of options"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            generator_options("lagnn", given)  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError), match=message):
            TEACHERS["lagnn"](3, 2, generator=given)
        with pytest.raises((TypeError, ValueError), match=message), rehearsal():
            StudentClassifier(method=dict(type="lagnn", generator=given), epochs=1).fit(
                x, [0, 1, 0, 1, 1], teacher=torch.randn(5, 2), edge_index=torch.tensor([[0], [1]])
            )


def test_views_pay_for_their_distance_from_the_sharpened_mean() -> None:
    p = torch.randn(3, 7, 4, generator=draw()).double().softmax(2)
    mean = p.numpy().mean(0) ** 2
    mean = mean / mean.sum(1, keepdims=True)
    expected = sum(((each - mean) ** 2).sum(1).mean() for each in p.numpy())
    assert disagreement(p, 2.0).item() == pytest.approx(expected)


# --- a student and a teacher that read it -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crossed() -> Graph:
    """Nodes whose class is the product of two signs in their features, and their neighbours, in which it is plain.

    No linear map tells the class of the former. They are 600; each has two neighbours out of 100.
    """
    signs = torch.randint(2, (600, 2), generator=draw()) * 2 - 1
    plain = torch.arange(100) % 2
    label = torch.cat([(signs.prod(1) > 0).long(), plain])
    x = torch.zeros(700, 6)
    x[:600, :2] = signs + 0.2 * torch.randn(600, 2, generator=draw(1))
    x[600 + torch.arange(100), 2 + plain] = 2.0
    x[:, 4:] = 0.3 * torch.randn(700, 2, generator=draw(2))
    met = 600 + 2 * torch.randint(50, (2, 600), generator=draw(3)) + label[:600]
    one_way = torch.stack([torch.arange(600).repeat(2), met.flatten()])
    edges = torch.cat([one_way, one_way.flip(0)], 1).unique(dim=1)
    return Graph(x, edges, label, 2, torch.arange(700))


@pytest.fixture(scope="module")
def unlinked(crossed: Graph) -> Setting:
    return make_setting(crossed, cpf_split(crossed.y, 0), "ind", 0)


def test_a_student_without_edges_has_neighbours_all_the_same(unlinked: Setting) -> None:
    """A linear student of nodes that nobody saw: the edges that the generator learned from make the difference."""
    teacher = train_teacher(unlinked, dict(type="sage", hidden=32, epochs=60))
    assert teacher.metrics["ind"] > 0.95
    generator = dict(width=64, epochs=12, batch_size=64, lr=0.01, passes=5)
    linear = StudentClassifier(hidden=(), dropout=0.0, epochs=60, lr=0.05)
    method = dict(type="lagnn", generator=generator)
    shuffled = unlinked.seen.edge_index.clone()
    shuffled[0] = shuffled[0, torch.randperm(shuffled.shape[1], generator=draw())]
    elsewhere = replace(unlinked, seen=replace(unlinked.seen, edge_index=shuffled))
    found = {
        "without": train_student(unlinked, teacher, "glnn", linear).metrics["cold"],
        "with": train_student(unlinked, teacher, method, linear).metrics["cold"],
        "of other nodes": train_student(elsewhere, teacher, method, linear).metrics["cold"],
    }
    assert found["with"] > 0.9
    assert max(found["without"], found["of other nodes"]) < 0.8


def test_a_student_survives_its_file_and_answers_each_node_alone(setting: Setting, tmp_path: Path) -> None:
    whole, teacher = setting.whole, torch.nn.functional.one_hot(setting.whole.y, 10).float() * 5
    student = StudentClassifier(hidden=(16,), epochs=3, method=dict(type="lagnn", **QUICK), random_state=0)
    student.fit(whole.x, whole.y, teacher=teacher, edge_index=whole.edge_index)
    network: Any = student.network_
    assert isinstance(network, WithNeighbour)
    assert isinstance(network.layers[0], Beside)
    p = student.predict_proba(whole.x)
    np.testing.assert_allclose(student.predict_proba(whole.x[5:6]), p[5:6], rtol=1e-4, atol=1e-6)
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    assert np.array_equal(again.predict_proba(whole.x), p)
    network.layers[0].near.weight.data.zero_()
    assert not np.allclose(student.predict_proba(whole.x), p, atol=1e-3)  # it does read the neighbour
    with pytest.raises(ValueError, match="already"):
        network.augment(NeighbourVAE(64))


def test_neither_generator_is_trained_with_the_network(setting: Setting) -> None:
    whole = setting.whole
    layer = Beside(torch.nn.Linear(64, 4), NeighbourVAE(64, width=8))
    assert {name for name, each in layer.named_parameters() if each.requires_grad} == {
        *("linear.weight", "linear.bias", "near.weight"),
    }
    network = TEACHERS["lagnn"](64, 10, hidden=8, generator=SMALL)
    network.before_training(setting)
    before = {name: each.clone() for name, each in network.layers[0].generator.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.1)
    (network(whole.x, whole.edge_index).square().mean() + network.auxiliary_loss()).backward()
    optimiser.step()
    after = network.layers[0].generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_generator_of_the_whole_graph_is_not_trained_on_sampled_parts(setting: Setting) -> None:
    with pytest.raises(ValueError, match="a LAGNN has losses of its own over the whole graph"):
        check_sampled("lagnn", setting, 0)


def test_without_a_generated_neighbour_the_teacher_is_a_gcn(setting: Setting) -> None:
    made = []
    for name, options in (("gcn", {}), ("lagnn", dict(concat=0))):
        torch.manual_seed(0)
        made.append(TEACHERS[name](64, 10, hidden=8, dropout=0.5, **options).eval())
    x, edges = setting.whole.x, setting.whole.edge_index
    torch.testing.assert_close(made[0](x, edges), made[1](x, edges))


def test_the_teacher_pays_for_what_its_draws_disagree(setting: Setting) -> None:
    x, edges = setting.whole.x, setting.whole.edge_index
    network = TEACHERS["lagnn"](64, 10, hidden=8, dropout=0.0, samples=3, consistency=2.0, generator=SMALL)
    network.before_training(setting)
    torch.manual_seed(3)
    network(x, edges)
    value = network.auxiliary_loss()
    torch.manual_seed(3)
    p = torch.stack([network(x, edges) for _ in range(3)]).softmax(2)
    assert value.item() == pytest.approx(2 * disagreement(p, 2.0).item() / 3, rel=1e-4)
    assert value > 0
    with pytest.raises(RuntimeError, match="once after each forward pass"):
        TEACHERS["lagnn"](64, 10, generator=SMALL).auxiliary_loss()
    network.eval()
    torch.testing.assert_close(network(x, edges), network(x, edges))  # the same draws for every call


def test_a_network_that_answered_is_copied(setting: Setting) -> None:
    """Also after training by a loop that asks for no loss of its own."""
    network = TEACHERS["lagnn"](64, 10, hidden=4, concat=0)
    network(setting.whole.x, setting.whole.edge_index)
    logits = network.eval()(setting.whole.x, setting.whole.edge_index)
    again = copy.deepcopy(network)(setting.whole.x, setting.whole.edge_index)
    torch.testing.assert_close(again, logits)


def test_a_generated_neighbour_helps_a_teacher_where_a_node_has_none(unlinked: Setting) -> None:
    """A single layer, which is linear, on nodes without an edge."""
    generator = dict(width=64, epochs=12, batch_size=64, lr=0.01, passes=5)
    told = dict(layers=1, epochs=80, lr=0.05, dropout=0.0)
    without = train_teacher(unlinked, dict(type="gcn", **told)).metrics["cold"]
    found = train_teacher(unlinked, dict(type="lagnn", generator=generator, **told)).metrics["cold"]
    assert found > without + 0.1


def test_nothing_of_a_hidden_node_reaches_a_generator(unlinked: Setting) -> None:
    whole, hidden = unlinked.whole, unlinked.unseen
    x = whole.x.clone()
    x[hidden] = 7 * torch.randn(len(hidden), 6, generator=draw())
    far = torch.cat([whole.edge_index, torch.stack([hidden, hidden.roll(1)])], 1)
    found = []
    for each in (whole, replace(whole, x=x, edge_index=far)):
        setting = make_setting(each, cpf_split(each.y, 0), "ind", 0)
        taught = train_teacher(setting, dict(type="lagnn", epochs=2, generator=SMALL))
        student = train_student(setting, taught, dict(type="lagnn", **QUICK), StudentClassifier(hidden=(8,), epochs=2))
        found.append((taught.model.layers[0].generator.state_dict(), student.model.network_.state_dict()))
    for one, other in zip(*found):
        assert all(torch.equal(one[name], other[name]) for name in one)
