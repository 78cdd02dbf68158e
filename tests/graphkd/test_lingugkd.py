"""LinguGKD: its loss in NumPy, its weights, graph networks as students, and from a language model to an MLP."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import LossContract, RecipeContract
from torch import Tensor

import kdlosses
from graphkd import Cache, Graph, StudentClassifier
from graphkd.cli.distill import read_config, references, run_seed
from graphkd.data import Setting, cpf_split, make_setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import lingugkd
from graphkd.rules.level_weights import LevelWeights
from graphkd.teachers import hopwise, sgc
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = [
    LossContract(
        "layer_infonce",
        no_fixed_point="projections that are still to be learned stand between",
        one_channel="compared by direction in a space of its own",
        over_pairs=True,
    ),
    RecipeContract(
        "lingugkd",
        undrawn=dict(draw=None, dropout=0.0),
        reads_labels="labels tell which pairs are no negatives",
        learns_less="it is not told the teacher's logits",
        more_outputs="its teacher is a language model",
    ),
]

ROOT = Path(__file__).parents[2]
CONVS = ("gcn", "gat", "sage", "gin", "sgc")


def level(student: int = 3, teacher: int = 4, **options: Any) -> Any:
    return kdlosses.build(
        dict(type="layer_infonce", student_channels=student, teacher_channels=teacher, **options)
    ).double()


def pair(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(count, width, generator=draw, dtype=torch.float64) for width in (3, 4))
    return s, t, torch.randint(3, (count,), generator=draw)


@pytest.mark.parametrize("both", [False, True])
def test_the_loss_of_a_level_is_its_formula(both: bool) -> None:
    s, t, y = pair()
    loss = level(tau=0.3, both=both)
    inner = loss.loss
    told = inner.teacher.weight.detach().numpy() @ t.numpy().T + inner.teacher.bias.detach().numpy()[:, None]
    told = np.where(told > 0, told, inner.slope.weight.item() * told).T
    told = (told - told.mean(1, keepdims=True)) / np.sqrt(told.var(1, keepdims=True) + inner.norm.eps)
    shared = inner.shared.weight.detach().numpy()
    if both:
        a, b = s.numpy() @ shared.T, told @ shared.T
    else:  # the language model's side alone is projected
        a = s.numpy()
        b = (told @ inner.inner.weight.detach().numpy().T + inner.inner.bias.detach().numpy()) @ shared.T
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b))
    expected = []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if y[j] != y[i]]
        scores = np.exp(np.array([a[i] @ b[j] for j in [i, *others]]) / 0.3)
        expected.append(-np.log(scores[0] / scores.sum()))
    assert loss(s, t, labels=y).item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_other_nodes_of_the_same_class_do_not_matter() -> None:
    s, t, y = pair()
    loss = level()
    own = (y == y[0]).nonzero().flatten()[1:]
    (gradient,) = torch.autograd.grad(
        loss(s.requires_grad_(), t, labels=y, weight=torch.arange(12) == 0), s, allow_unused=True
    )
    moved = t.index_fill(0, own, 5.0)
    alone = torch.zeros(12).index_fill(0, torch.tensor([0, *(y != y[0]).nonzero().flatten().tolist()]), 1.0)
    torch.testing.assert_close(
        loss(s, t, labels=y, weight=alone), loss(s, moved, labels=y, weight=alone), rtol=1e-12, atol=0
    )
    assert (gradient[1:] == 0).all()


def test_one_class_has_no_negative_and_an_aligned_pair_costs_less() -> None:
    s, t, y = pair()
    loss = level()
    nothing = loss(s.requires_grad_(), t, labels=torch.zeros_like(y))
    assert nothing.item() == 0
    nothing.backward()
    assert (s.grad == 0).all()
    inner = loss.loss
    told = inner.shared(inner.inner(inner.norm(inner.slope(inner.teacher(t)))))
    nearer = torch.where(torch.arange(12)[:, None] == 4, told, s)
    assert loss(nearer, t, labels=y) < loss(s, t, labels=y)


@pytest.mark.parametrize("both", [False, True])
def test_every_projection_learns(both: bool) -> None:
    s, t, y = pair()
    loss = level(both=both)
    loss(s, t, labels=y).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


@pytest.mark.parametrize("both", [False, True])
def test_the_last_matrix_is_one_for_all_levels_and_the_student_is_not_projected(both: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    hidden = [torch.randn(30, 6, generator=draw) for _ in range(3)]
    kept: list[Any] = []

    def keep(parts: Any, loss: Any, count: int) -> History:
        kept.extend((parts, loss))
        return History()

    x, y = torch.randn(30, 5, generator=draw), torch.arange(30) % 3
    model = MLP(5, (4, 4, 7), 3)
    lingugkd(model, Lesson(x, y, keep, draw, hidden=hidden), dropout=0.0, draw=None, both=both, lam=0.0)
    (_, levels, _), loss = kept
    first, second, third = (each.loss.shared for each in levels)
    assert (first is second) == (not both)
    assert third is not first  # of another width
    directions = torch.nn.functional.normalize
    expected = []
    for layer, hop, each in zip(model.outputs(x), hidden, levels):
        inner = each.loss
        told = inner.shared(inner.inner(inner.norm(inner.slope(inner.teacher(hop)))))
        own = inner.shared(layer) if both else layer
        scores = directions(own, dim=1) @ directions(told, dim=1).T / 0.07
        scores[(y[:, None] == y) & ~torch.eye(30, dtype=torch.bool)] = -torch.inf
        expected.append(torch.nn.functional.cross_entropy(scores, torch.arange(30)))
    assert loss(slice(None)).item() == pytest.approx(torch.stack(expected).mean().item() / math.log(30), rel=1e-5)


def test_learned_weights_stay_on_the_simplex_and_keep_what_they_promise() -> None:
    losses, shares = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0.2, 0.5, 0.3])
    for adapt in (0.3, 1.0):
        mixed = LevelWeights(shares.tolist(), adapt)
        optimiser = torch.optim.Adam(mixed.parameters(), lr=0.05)
        for _ in range(500):
            optimiser.zero_grad()
            mixed(losses).backward()
            optimiser.step()
            assert mixed.weights().sum().item() == pytest.approx(1, abs=1e-6)
        best = shares * (-losses / adapt).exp()
        torch.testing.assert_close(mixed.weights().detach(), best / best.sum(), atol=1e-3, rtol=1e-2)
        assert (mixed.weights() >= shares * math.exp(-0.9 / adapt) - 1e-3).all()


def test_without_their_price_the_weights_run_to_the_easiest_loss() -> None:
    """Which is why there is one."""
    losses = torch.tensor([0.1, 0.5, 1.0])
    mixed = LevelWeights([1, 1, 1], adapt=0)
    optimiser = torch.optim.Adam(mixed.parameters(), lr=0.05)
    for _ in range(500):
        optimiser.zero_grad()
        mixed(losses).backward()
        optimiser.step()
    assert mixed.weights()[0] > 0.95


def test_fixed_weights_are_their_shares_and_order_does_not_matter() -> None:
    losses = torch.tensor([0.2, 0.9, 0.4])
    fixed = LevelWeights([1, 2, 1], adapt=None)
    assert fixed(losses).item() == pytest.approx((0.2 + 1.8 + 0.4) / 4)
    assert not any(parameter.requires_grad for parameter in fixed.parameters())
    order = torch.tensor([2, 0, 1])
    one, two = LevelWeights([1, 2, 1]), LevelWeights([1, 1, 2])
    with torch.no_grad():
        one.scores += torch.tensor([0.1, -0.3, 0.2])
        two.scores.copy_(one.scores[order])
    torch.testing.assert_close(one(losses), two(losses[order]))
    with pytest.raises(ValueError, match=r"shares are positive and adapt is None or from 0, got \[0, 1\]"):
        LevelWeights([0, 1])


@pytest.mark.parametrize("conv", CONVS)
def test_level_k_of_a_hopwise_network_has_seen_k_hops(conv: str) -> None:
    path = torch.tensor([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])
    torch.manual_seed(0)
    network = hopwise(3, 2, conv=conv, hidden=16).eval()  # type: ignore[arg-type]
    x = torch.randn(4, 3)
    before = network.outputs(x, path)
    x[3] += 1
    after = network.outputs(x, path)
    for hop, (a, b) in enumerate(zip(before, after)):
        changed = [node for node in range(4) if not torch.allclose(a[node], b[node])]
        assert changed == list(range(3 - min(hop, 2), 4))


def test_sgc_is_a_linear_map_of_averaged_features() -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    x = torch.randn(3, 5)
    network = sgc(5, 2, hops=2)
    mean = torch.tensor([[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]])
    torch.testing.assert_close(network(x, edges), network.layers[0].linear(mean @ mean @ x))
    alone = sgc(5, 2, hops=0)
    assert torch.equal(alone(x, edges), alone.layers[0].linear(x))
    with pytest.raises(ValueError, match="conv is one of gcn, gat, sage, gin, sgc, not 'gnn'"):
        hopwise(5, 2, conv="gnn")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def words(papers: Graph) -> tuple[Setting, Cache]:
    """Papers, and a teacher whose hop k knows the topics of those within k hops, and some noise."""
    draw = np.random.default_rng(1)
    known = np.eye(4)[papers.y.numpy()]
    adjacency = np.zeros((len(papers), len(papers)))
    adjacency[tuple(papers.edge_index.numpy())] = 1
    near = (adjacency + np.eye(len(papers))) / (1 + adjacency.sum(1, keepdims=True))
    hops = [known, near @ known, near @ near @ known]
    hidden = [hop @ draw.normal(size=(4, 12)) + 0.5 * draw.normal(size=(len(papers), 12)) for hop in hops]
    nodes = np.arange(len(papers))
    seen = np.ones(len(papers), dtype=bool)
    cache = Cache(
        *(np.zeros((len(papers), 0), dtype=np.float32), nodes, seen, papers.fingerprint()),
        tuple(hop.astype(np.float16) for hop in hidden),
        {"teacher": {"type": "language_model"}},
    )
    return make_setting(papers, cpf_split(papers.y, 0), "tran", 0), cache


SPEC = dict(type="hopwise", conv="gcn", hidden=32, epochs=40, patience=40)
METHOD = dict(type="lingugkd", draw=200)


@pytest.mark.parametrize("conv", CONVS)
def test_a_taught_graph_network_beats_the_same_untaught(words: tuple[Setting, Cache], conv: str) -> None:
    setting, cache = words
    spec = {**SPEC, "conv": conv}
    taught = train_teacher(setting, {**spec, "source": cache, "method": METHOD})
    untaught = train_teacher(setting, spec)
    assert taught.metrics["tran"] > untaught.metrics["tran"] + 0.03
    assert taught.cache is not None
    assert taught.cache.settings["teacher"]["source"] == {"type": "language_model"}
    assert len(taught.cache.hidden) == 3


def test_with_labels_alone_it_is_the_untaught_network(words: tuple[Setting, Cache]) -> None:
    setting, cache = words
    one = train_teacher(setting, {**SPEC, "source": cache, "method": dict(type="lingugkd", lam=1.0)})
    two = train_teacher(setting, SPEC)
    assert one.cache is not None
    assert two.cache is not None
    np.testing.assert_allclose(one.cache.logits, two.cache.logits, atol=1e-3)


def test_labels_of_other_nodes_change_nothing(words: tuple[Setting, Cache]) -> None:
    setting, cache = words
    spec = {**SPEC, "epochs": 5, "source": cache, "method": METHOD}
    noise = torch.randint(4, (len(setting.whole),), generator=torch.Generator().manual_seed(0))
    test = torch.zeros(len(setting.whole), dtype=torch.bool).index_fill(0, setting.test, True)
    other = replace(setting.whole, y=torch.where(test, noise, setting.whole.y))
    moved = replace(setting, whole=other)
    named = replace(cache, fingerprint=other.fingerprint())
    one, two = train_teacher(setting, spec).cache, train_teacher(moved, {**spec, "source": named}).cache
    assert one is not None
    assert two is not None
    assert np.array_equal(one.logits, two.logits)


@pytest.mark.parametrize("reach", ["train", "all"])
def test_in_batches_a_graph_network_learns_as_well(words: tuple[Setting, Cache], reach: str) -> None:
    setting, cache = words
    method = {**METHOD, "reach": reach}
    spec = {**SPEC, "conv": "sage", "epochs": 15, "source": cache, "method": method}
    whole, parts = (train_teacher(setting, {**spec, "batch_size": size}).metrics["tran"] for size in (None, 200))
    assert parts > whole - 0.05


def test_around_a_batch_a_network_sees_what_it_sees_on_the_whole_graph(papers: Graph) -> None:
    network = hopwise(papers.x.shape[1], 4, conv="sage", hidden=8).eval()
    lesson = Lesson(papers.x, papers.y, lambda *_: History(), torch.Generator(), edge_index=papers.edge_index)
    nodes = torch.tensor([5, 700, 31])
    for part, whole in zip(lesson.outputs(network, nodes), lesson.outputs(network, slice(None))):
        torch.testing.assert_close(part, whole[nodes])


def test_from_the_language_model_to_a_graph_network_to_an_mlp(words: tuple[Setting, Cache]) -> None:
    setting, cache = words
    quick = StudentClassifier(hidden=(64,), dropout=0.5, epochs=50)
    network = train_teacher(setting, {**SPEC, "source": cache, "method": METHOD})
    distilled = train_student(setting, network.cache, "glnn", quick)
    control = train_student(setting, None, "supervised", quick)
    straight = train_student(setting, cache, METHOD, quick)
    assert distilled.metrics["tran"] > control.metrics["tran"] + 0.1
    assert straight.metrics["tran"] > control.metrics["tran"] + 0.03


@pytest.mark.parametrize(
    "spec",
    [dict(type="lagnn", consistency=5.0, generator=dict(epochs=2)), dict(type="vqsage", codes=8), dict(type="gcn")],
    ids=lambda spec: str(spec["type"]),
)
def test_a_taught_network_pays_its_own_losses(words: tuple[Setting, Cache], spec: dict[str, Any]) -> None:
    """Taught by the labels alone it becomes what it becomes untaught."""
    setting, cache = words
    spec = {**spec, "hidden": 8, "epochs": 3}
    untaught, taught = (
        train_teacher(setting, {**spec, **more}, 0).model.state_dict()
        for more in ({}, dict(source=cache, method="supervised"))
    )
    for name, value in untaught.items():
        torch.testing.assert_close(taught[name], value, msg=name)


def test_a_graph_network_may_read_the_vectors_themselves(words: tuple[Setting, Cache]) -> None:
    setting, cache = words
    read = train_teacher(setting, dict(type="sgc", hops=0, epochs=60, source=cache, inputs=2))
    assert read.x is not None
    assert read.x.shape == (len(setting.whole), 12)
    assert read.model.layers[0].linear.in_features == 12
    assert read.metrics["tran"] > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(method="glnn"), "no method is called 'glnn'"),
        (dict(method=dict(type="lingugkd", lamb=1)), "'lingugkd' has no option 'lamb'"),
        (dict(source=None), "reads .*, needs a Cache as its 'source'"),
        (dict(inputs=7), "inputs is the number of a hidden layer of the source, which has 3"),
        (dict(tune="mcmi"), "is not fine-tuned: leave 'tune' out"),
        (dict(method=dict(type="lingugkd", reach="some")), "reach must be 'train' or 'all', got 'some'"),
        (dict(method=dict(type="lingugkd", lam=2)), "lam is the weight of the labels"),
    ],
)
def test_bad_specs_are_refused(words: tuple[Setting, Cache], change: dict[str, Any], message: str) -> None:
    setting, cache = words
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        train_teacher(setting, {**SPEC, "source": cache, "method": METHOD, **change})


def test_a_cache_of_other_nodes_or_without_levels_is_refused(words: tuple[Setting, Cache]) -> None:
    setting, cache = words
    fewer = cache.observed.copy()
    fewer[3] = False
    with pytest.raises(ValueError, match="the cache observed 799 nodes, the setting 'tran' shows 800"):
        train_teacher(setting, {**SPEC, "source": replace(cache, observed=fewer), "method": "lingugkd"})
    with pytest.raises(ValueError, match="the cache belongs to another graph"):
        train_teacher(setting, {**SPEC, "source": replace(cache, fingerprint="f00d"), "method": "lingugkd"})
    with pytest.raises(ValueError, match="the student has 3 hidden layers, the teacher 0"):
        train_teacher(setting, {**SPEC, "source": replace(cache, hidden=()), "method": "lingugkd"})
    with pytest.raises(ValueError, match="needs a 'method' that teaches it, or 'inputs', or both"):
        train_teacher(setting, {**SPEC, "source": cache})


def test_a_config_names_all_and_logs_the_untaught_beside(
    words: tuple[Setting, Cache], papers: Graph, tmp_path: Path
) -> None:
    words[1].save(tmp_path / "cache")
    path = tmp_path / "papers.py"
    source = f"source={str(tmp_path / 'cache')!r}"
    path.write_text(
        f"_base_ = {str(ROOT / 'configs/_base_/graph.py')!r}\ndata = 'digits'\nsettings = ['tran']\n"
        f"teacher = dict(type='hopwise', hidden=16, epochs=3, {source}, method='lingugkd')\n"
        f"references = [dict(type='sgc', hops=0, epochs=3, {source}, inputs=0)]\n"
        "student = dict(hidden=[16], epochs=3)\nmethods = [dict(type='glnn')]\n"
    )
    config = read_config(path)
    assert references(config)[0] == dict(type="hopwise", hidden=16, epochs=3)
    logs = run_seed(papers, config, "papers", 0, lambda: None)
    assert [(log["role"], log["method"]) for log in logs] == [
        ("teacher", "hopwise, lingugkd"),
        ("control", "supervised"),
        ("distilled", "glnn"),
        ("reference", "hopwise"),
        ("reference", "sgc(0) on hidden 0"),
    ]
    assert all(log["latency_ms"]["all_nodes"] > 0 for log in logs)


def test_a_config_without_its_cache_says_what_writes_it(tmp_path: Path) -> None:
    from graphkd.cli.distill import teacher_of

    with pytest.raises(SystemExit, match=r"is no teacher cache.*`graphkd embed` writes"):
        teacher_of(dict(type="hopwise", source=str(tmp_path / "no"), method="lingugkd"), "tran", 0)


def test_an_mlp_without_hidden_layers_is_refused(setting: Setting) -> None:
    lesson = Lesson(setting.seen.x, setting.seen.y, lambda *_: History(), torch.Generator(), hidden=[setting.seen.x])
    with pytest.raises(ValueError, match="the student has 0 hidden layers, the teacher 1; each needs one"):
        lingugkd(MLP(64, (), 10), lesson)
