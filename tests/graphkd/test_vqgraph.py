"""VQGraph: the codebook and the tokenizer against brute force and closed forms, the code loss, and the recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import LossContract, RecipeContract
from scipy.special import rel_entr, softmax
from sklearn.metrics import pairwise_distances
from torch import Tensor

from graphkd import Cache, StudentClassifier
from graphkd.data import Setting
from graphkd.networks.codebook import Codebook, code_use, k_means, nearest
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import vqgraph
from graphkd.sparse.rows import compact
from graphkd.teachers.vq import vqsage
from graphkd.training.latency import hops
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Schedule, train
from kdlosses import build

CONTRACT = [
    LossContract("vq_code_kl", options=dict(codebook=torch.linspace(-2, 2, 35).view(5, 7).sin().mul(3).T.contiguous())),
    RecipeContract("vqgraph", without_edges=dict(codes=4)),
]

TEACHER = dict(type="vqsage", epochs=40, hidden=64, codes=64, width=16)
STUDENT = StudentClassifier(hidden=(32,), dropout=0.0, epochs=60)


@pytest.fixture(scope="module")
def cache(setting: Setting) -> Cache:
    taught = train_teacher(setting, TEACHER, 0).cache
    assert taught is not None
    return taught


def blobs(count: int = 400, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator)


# --- codebook ---------------------------------------------------------------------------------------------------------


def test_codes_are_the_nearest_by_brute_force_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, vectors = blobs().double(), blobs(50).double().roll(1, 1)
    by_hand = pairwise_distances(rows.numpy(), vectors.numpy()).argmin(1)
    np.testing.assert_array_equal(nearest(rows, vectors), by_hand)
    monkeypatch.setattr("graphkd.networks.codebook._BLOCK", 50 * 7)
    np.testing.assert_array_equal(nearest(rows, vectors), by_hand)
    q, codes = Codebook(50, 6).eval()(rows.float())
    assert q.shape == rows.shape
    assert len(codes) == len(rows)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_gradient_goes_straight_through(update: Any) -> None:
    codebook, rows, upstream = Codebook(20, 6, update), blobs().requires_grad_(), blobs().flip(0)
    q, codes = codebook(rows)
    assert not torch.allclose(q, rows)
    (q * upstream).sum().backward()
    torch.testing.assert_close(rows.grad, upstream)
    assert codebook.vectors.grad is None
    frozen = codebook.eval()
    q, codes = frozen(rows)
    torch.testing.assert_close(q, frozen.vectors[codes], atol=1e-6, rtol=0)


def test_moving_averages_have_their_closed_form() -> None:
    codebook, decay = Codebook(3, 1, decay=0.75, dead=0.0), 0.75
    start = torch.tensor([[0.0], [10.0], [20.0]])
    codebook.started.fill_(True)
    codebook.vectors.copy_(start)
    codebook.total.copy_(start)  # one row each, at the code
    rows = torch.tensor([[1.0], [-1.0], [3.0], [11.0]])
    for _ in range(5):
        codebook(rows)
    kept = decay**5
    count = np.array([kept + 3 * (1 - kept), kept + (1 - kept), kept])
    total = np.array([3 * (1 - kept), 10 * kept + 11 * (1 - kept), 20 * kept])
    np.testing.assert_allclose(codebook.count, count, rtol=1e-5)
    np.testing.assert_allclose(codebook.vectors[:, 0], total / count, rtol=1e-5)
    codebook.eval()(rows)
    np.testing.assert_allclose(codebook.count, count, rtol=1e-5)


def test_codes_by_gradient_go_to_the_means_of_their_rows() -> None:
    rows = blobs(60, 2)
    codebook = Codebook(4, 2, "gradient", dead=0.0)
    codebook(rows)
    with torch.no_grad():
        codebook.vectors += 0.05
    optimiser = torch.optim.SGD(codebook.parameters(), lr=1.0)
    for _ in range(300):
        _, codes = codebook(rows)
        optimiser.zero_grad()
        codebook.loss(rows, codes).backward()
        optimiser.step()
    means = torch.stack([rows[codes == code].mean(0) for code in range(4)])
    torch.testing.assert_close(codebook.vectors.detach(), means, atol=1e-4, rtol=0)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_come_back(update: Any) -> None:
    usages = []
    for dead in (0.0, 1.0):
        torch.manual_seed(0)
        codebook, rows = Codebook(64, 6, update, dead=dead), blobs()
        codebook.started.fill_(True)
        with torch.no_grad():
            codebook.vectors += 30  # all but one are far from any row
            codebook.total += 30
        for _ in range(30):
            codebook(rows)
        usages.append(code_use(codebook.eval()(rows)[1], 64)[0])
    assert usages[0] < 0.1
    assert usages[1] > 0.5


def test_k_means_starts_the_codes_and_beats_random_rows() -> None:
    rows = blobs(2000)
    centres = k_means(rows, 30, torch.Generator().manual_seed(1))
    assert torch.equal(centres, k_means(rows, 30, torch.Generator().manual_seed(1)))

    def error(vectors: Tensor) -> float:
        return (rows - vectors[nearest(rows, vectors)]).square().sum(1).mean().item()

    assert error(centres) < 0.8 * error(rows[:30])
    codebook = Codebook(30, 6)
    codebook(rows)
    assert error(codebook.vectors) < 0.8 * error(rows[:30])
    with pytest.raises(ValueError, match="a codebook of 30 codes needs at least as many nodes to start from, got 29"):
        k_means(rows[:29], 30)
    with pytest.raises(ValueError, match="'ema' or 'gradient', not 'emma'"):
        Codebook(3, 2, "emma")  # type: ignore[arg-type]


def test_use_of_codes() -> None:
    codes = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    share = np.array([1, 2, 4]) / 7
    usage, perplexity = code_use(codes, 6)
    assert usage == 0.5
    assert perplexity.item() == pytest.approx(np.exp(-(share * np.log(share)).sum()))


# --- tokenizer --------------------------------------------------------------------------------------------------------


def test_drawn_pairs_are_edges_and_pairs_without_one() -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(30, (2, 200), generator=generator)
    network = vqsage(5, 3, codes=4, sample=80)
    there = set(map(tuple, edges.T.tolist()))
    seen = set()
    for _ in range(40):
        pairs, linked = network._drawn_pairs(edges, 30)
        for (i, j), is_edge in zip(pairs.T.tolist(), linked.tolist()):
            assert i != j
            assert ((i, j) in there) == is_edge
            seen.add((i, j)) if is_edge else None
    assert len(seen) == len({pair for pair in there if pair[0] != pair[1]})  # each edge has its turn


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_own_losses_fall_and_teach_codes_the_edges(setting: Setting, update: Any) -> None:
    torch.manual_seed(0)
    graph = setting.whole
    network = vqsage(64, 10, codes=64, width=16, update=update)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    values = []
    for _ in range(30):
        network(graph.x, graph.edge_index)
        own = network.auxiliary_loss()
        optimiser.zero_grad()
        own.backward()
        optimiser.step()
        values.append(own.item())
    assert np.mean(values[-10:]) < 0.95 * values[0]
    with pytest.raises(RuntimeError, match="after each forward pass in training mode"):
        network.auxiliary_loss()
    network.eval()
    codes = network.codebook(network.extras(graph.x, graph.edge_index)[0]["code"])[1]
    source, target = graph.edge_index
    alike = (codes[source] == codes[target]).float().mean()
    assert alike > 5 * (codes[source] == codes[target].roll(1000)).float().mean()


def test_before_training_it_is_plain_sage_and_takes_sparse_features() -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 40) * (torch.rand(50, 40) < 0.05)
    edges = torch.randint(50, (2, 200))
    network = vqsage(40, 4, codes=8).eval()
    plain = super(type(network), network).outputs(x, edges)[-1][:, :4]
    torch.testing.assert_close(network(x, edges), plain)
    sparse = compact(x)
    assert sparse.layout is torch.sparse_csr
    torch.testing.assert_close(network(sparse, edges), plain)
    network.train()(sparse, edges)
    assert network.auxiliary_loss().isfinite()


def test_alone_classes_come_from_codes_and_nothing_else() -> None:
    torch.manual_seed(0)
    x, edges = torch.randn(60, 7), torch.randint(60, (2, 150)).unique(dim=1)
    network = vqsage(7, 3, codes=5, width=4, alone=True)
    network(x, edges)  # starts the codes
    network.eval()
    codes = network.codebook(network.extras(x, edges)[0]["code"])[1]
    told = network.edge_decoder(network.codebook.vectors[codes]).detach().numpy()
    reach = np.eye(60)
    np.add.at(reach, (edges[1].numpy(), edges[0].numpy()), 1)
    linear = network.from_code.linear
    mean = (reach / reach.sum(1, keepdims=True)) @ told
    expected = mean @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(network(x, edges).detach(), expected, atol=1e-5)
    with torch.no_grad():
        network.codebook.vectors[:] = network.codebook.vectors[0]  # one code for all
    alike = network(x, edges)
    assert torch.allclose(alike, alike[:1].expand(60, -1))
    beside = vqsage(7, 3, codes=5, width=4).eval()(x, edges)
    assert not torch.allclose(beside, beside[:1].expand(60, -1))
    assert hops(network) == 3


def test_alone_it_classifies_too(setting: Setting) -> None:
    taught = train_teacher(setting, {**TEACHER, "alone": True}, 0)
    assert taught.metrics["tran"] > 0.8
    assert taught.cache is not None
    assert taught.cache.settings["teacher"]["alone"]


def test_what_it_tells(setting: Setting, cache: Cache) -> None:
    assert cache.more["code"].shape == (len(setting.whole), 16)
    assert cache.params["codebook"].shape == (64, 16)
    distance = pairwise_distances(cache.more["code"], cache.params["codebook"])
    histogram = np.bincount(distance.argmin(1), minlength=64) / len(distance)
    assert cache.params["usage"] == pytest.approx((histogram > 0).mean(), abs=0.02)  # ties in float32
    entropy = -(histogram[histogram > 0] * np.log(histogram[histogram > 0])).sum()
    assert cache.params["perplexity"] == pytest.approx(np.exp(entropy), rel=0.01)
    assert cache.params["usage"] > 0.5


def test_it_classifies_like_plain_sage(setting: Setting, cache: Cache) -> None:
    sage = train_teacher(setting, dict(type="sage", epochs=40, hidden=64), 0).metrics["tran"]
    own = (cache.logits.argmax(1) == setting.whole.y.numpy())[setting.test].mean()
    assert own > sage - 0.01


# --- loss -------------------------------------------------------------------------------------------------------------


def test_code_loss_is_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    s, t, e, w = rng.normal(size=(9, 4)), rng.normal(size=(9, 4)), rng.normal(size=(7, 4)), rng.random(9)
    p, q = (softmax(-pairwise_distances(x, e) / 1.7, axis=1) for x in (t, s))
    expected = 1.7**2 * np.average(rel_entr(p, q).sum(1), weights=w)
    student, teacher, weight = (torch.from_numpy(x) for x in (s, t, w))
    student.requires_grad_()
    loss = build(dict(type="vq_code_kl", codebook=torch.from_numpy(e), tau=1.7))
    value = loss(student, teacher, weight=weight)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    gradient = torch.autograd.grad(value, student)[0]
    monkeypatch.setattr("kdlosses.relation.blocks.BLOCK", 2 * 7)
    in_blocks = loss(student, teacher, weight=weight)
    assert in_blocks.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(torch.autograd.grad(in_blocks, student)[0], gradient)


def test_code_loss_sees_distances_alone() -> None:
    s, t, e = blobs(30).double(), blobs(30).double().flip(0), blobs(12).double().roll(2, 1)
    value = build(dict(type="vq_code_kl", codebook=e))(s, t)
    turn = torch.linalg.qr(blobs(6).double()).Q
    moved = build(dict(type="vq_code_kl", codebook=e @ turn + 3))(s @ turn + 3, t @ turn + 3)
    torch.testing.assert_close(moved, value, rtol=1e-6, atol=0)
    far = [torch.cdist(x, e) for x in (s, t)]
    hot = build(dict(type="vq_code_kl", codebook=e, tau=1e4))(s, t)
    torch.testing.assert_close(hot, (far[0] - far[1]).var(1, correction=0).mean() / 2, rtol=1e-2, atol=0)


def test_code_loss_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"the codebook must be \(M, C\)"):
        build(dict(type="vq_code_kl", codebook=torch.zeros(3)))
    with pytest.raises(ValueError, match=r"the codes have 2 channels, the features are \(4, 3\)"):
        build(dict(type="vq_code_kl", codebook=torch.zeros(5, 2)))(torch.zeros(4, 3), torch.zeros(4, 3))


# --- recipe -----------------------------------------------------------------------------------------------------------


def test_a_student_that_projects_to_the_teacher_costs_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(40, 6), torch.full((40,), -1)
    codebook, model, values = torch.randn(9, 3), MLP(6, (8,), 4), []

    def one_step(modules: Any, loss: Any, count: int) -> Any:
        with torch.no_grad():  # the teacher's rows are what the projection makes of the student's hidden layer
            code.copy_(modules[1](model.outputs(x)[-2]))
        values.extend(loss(nodes).item() for nodes in (slice(None), torch.arange(7)))

    code = torch.zeros(40, 3)
    logits = model(x).detach()
    lesson = Lesson(x, y, one_step, torch.Generator(), logits, more={"code": code}, params={"codebook": codebook})
    vqgraph(model, lesson, lam=0.0)
    np.testing.assert_allclose(values, 0, atol=1e-6)


def test_the_student_learns_the_codes_of_the_nodes(setting: Setting, cache: Cache) -> None:
    seen, agreement = setting.seen, []
    code, codebook = torch.from_numpy(cache.more["code"]), torch.from_numpy(cache.params["codebook"])
    for beta in (0.0, 1.0):
        torch.manual_seed(0)
        model, kept = MLP(64, (32,), 10), []

        def loop(modules: Any, loss: Any, count: int) -> Any:
            kept.append(modules[1])  # noqa: B023
            return train(modules, loss, count, schedule=Schedule(epochs=60))

        lesson = Lesson(
            seen.x,
            torch.full((len(seen),), -1),
            loop,
            torch.Generator(),
            torch.from_numpy(cache.logits),
            more={"code": code},
            params={"codebook": codebook},
        )
        vqgraph(model, lesson, lam=0.0, beta=beta)
        guessed = nearest(kept[0](model.outputs(seen.x)[-2]), codebook)
        agreement.append((guessed == nearest(code, codebook)).float().mean().item())
    assert agreement[0] < 0.15
    assert agreement[1] > agreement[0] + 0.25


@pytest.mark.parametrize("options", [dict(), dict(codes=32)])
def test_it_beats_the_untaught_student(setting: Setting, cache: Cache, options: dict[str, int]) -> None:
    control = train_student(setting, None, "supervised", STUDENT, 0).metrics["tran"]
    student = train_student(setting, cache, dict(type="vqgraph", **options), STUDENT, 0).metrics["tran"]
    assert student > control + 0.01


def test_without_codes_it_is_glnn_but_for_the_start(setting: Setting, cache: Cache) -> None:
    silent = train_student(setting, cache, dict(type="vqgraph", beta=0.0), STUDENT, 0).model.predict_proba(
        setting.whole.x
    )
    glnn = train_student(setting, cache, "glnn", STUDENT, 0).model.predict_proba(setting.whole.x)
    np.testing.assert_allclose(silent, glnn, atol=1e-6)


def test_what_is_missing_is_named(setting: Setting, cache: Cache) -> None:
    plain = Cache(cache.logits, cache.node_id, cache.observed, cache.fingerprint)
    for method, message in (
        ("vqgraph", "the teacher has no 'code' and 'codebook'; use teacher='vqsage', or codes=256"),
        (dict(type="vqgraph", codes=8), "fitted to the teacher's last hidden layer, but it has none"),
    ):
        with pytest.raises(ValueError, match=message):
            train_student(setting, plain, method, STUDENT, 0)
    with pytest.raises(ValueError, match="the student needs a hidden layer"):
        train_student(setting, cache, "vqgraph", StudentClassifier(hidden=()), 0)
