"""KRD and HGMD: what is summed over sampled edges against loops over edges, and what their samplers must hold to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.stats import chisquare
from torch import Tensor, nn

from graphkd import Cache, StudentClassifier, cpf_split, digits, make_setting, train_student, train_teacher
from graphkd.data import Setting
from graphkd.recipes import RECIPES
from graphkd.recipes.krd import fitted_power
from graphkd.sparse.edges import neighbour_targets
from graphkd.sparse.sampling import EdgeDraws, keep_for_hard, keep_reliable, similarity
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History
from kdlosses import build
from kdlosses.rules.mixup import beta

CONTRACT = RecipeContract("krd", options=dict(start=0), undrawn=dict(start=0), short=dict(start=0))

N, C, E = 40, 4, 300
GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER, NOISY = (2 * torch.randn(N, C, generator=GENERATOR, dtype=torch.float64) for _ in range(3))
EDGES = torch.randint(N - 1, (2, E), generator=GENERATOR)  # node 39 is alone
EDGES = EDGES[:, EDGES[0] != EDGES[1]]
E = EDGES.shape[1]

Step = tuple[float, np.ndarray]
"""Value of a loss and its gradient at the logits."""


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(z: Tensor) -> np.ndarray:
    p = softmax(z.numpy())
    return -(p * np.log(p)).sum(1)


def edge_by_edge(parts: Sequence[tuple[int, np.ndarray, float]], total: float, tau: float) -> Step:
    """Sum of weight times KL(target || student at node) over parts (node, target, weight), over `total`."""
    q = softmax(STUDENT.numpy() / tau)
    value, gradient = 0.0, np.zeros((N, C))
    for node, p, weight in parts:
        value += weight * float((p * np.log(p / q[node])).sum())
        gradient[node] += weight * (q[node] - p) / tau
    return value / total, gradient / total


def steps(
    name: str, epochs: Sequence[int], edges: Tensor = EDGES, parts: Sequence[Any] = (slice(None),), **options: Any
) -> list[Step]:
    """The loss that a recipe would minimise, mean of its batches, in some of 100 epochs; the logits are the network."""
    clock, found = Clock(), []
    model = nn.Linear(N, C, bias=False).double()
    model.weight.data = STUDENT.T.clone()

    def each(model: nn.Module, loss: Any, count: int) -> History:
        for epoch in epochs:
            clock.epoch, clock.progress = epoch, epoch / 100
            model.zero_grad()
            value = torch.stack([loss(part) for part in parts]).mean()
            value.backward()
            found.append((value.item(), model.weight.grad.T.numpy().copy()))  # type: ignore[union-attr, operator]
        return History(best_epoch=99)

    x, nothing = torch.eye(N, dtype=torch.float64), torch.full((N,), -1)
    generator = torch.Generator().manual_seed(7)
    told = {"noisy": NOISY, **options.pop("more", {})}
    RECIPES[name](model, Lesson(x, nothing, each, generator, TEACHER, edges, clock=clock, more=told), **options)
    return found


def assert_same(one: Step, other: Step) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-9)
    np.testing.assert_allclose(one[1], other[1], atol=1e-12)


# --- targets ----------------------------------------------------------------------------------------------------------


def test_weighted_targets_are_the_weighted_sum_over_edges() -> None:
    weight, own = torch.rand(E, dtype=torch.float64), torch.rand(N, dtype=torch.float64)
    p = softmax(TEACHER.numpy())
    parts = [(i, p[j], w) for (j, i), w in zip(EDGES.T.tolist(), weight.tolist())]
    parts += [(i, p[i], v) for i, v in enumerate(own.tolist())]
    z = STUDENT.clone().requires_grad_()
    loops = torch.arange(N).expand(2, -1)[:, ::3]  # do not count
    given = torch.cat([loops, EDGES], 1), torch.cat([torch.ones(loops.shape[1]), weight])
    targets = neighbour_targets(TEACHER, *given, own)
    loss = targets.loss(z)
    (gradient,) = torch.autograd.grad(loss, z)
    assert_same((loss.item(), gradient.numpy()), edge_by_edge(parts, float(weight.sum() + own.sum()), 1.0))
    batches = [targets.loss(z[part], part).item() for part in torch.randperm(N).split(N // 4)]
    assert np.mean(batches) == pytest.approx(loss.item(), rel=1e-9)


def test_mixtures_of_weight_zero_are_what_a_node_hears_of_itself() -> None:
    heard = 1 + torch.bincount(EDGES[1], minlength=N).double()
    z, kl = STUDENT, build("kl").double()
    mixed = neighbour_targets(TEACHER, EDGES, torch.zeros(E), heard).loss(z)
    torch.testing.assert_close(mixed, kl(z, TEACHER, weight=heard))
    ring = torch.stack([torch.arange(N), torch.arange(N).roll(1)])  # every node has one edge
    torch.testing.assert_close(
        neighbour_targets(TEACHER, ring, torch.zeros(N), 2 * torch.ones(N)).loss(z), kl(z, TEACHER)
    )


# --- KRD --------------------------------------------------------------------------------------------------------------


def shaken() -> np.ndarray:
    moved = np.abs(entropy(NOISY) - entropy(TEACHER))
    return moved / moved.max()


def krd_by_hand(tau: float, drawn: np.ndarray, even: bool | float = False) -> Step:
    p, parts = softmax(TEACHER.numpy() / tau), []
    for i in range(N):
        told = [j for (j, target), keep in zip(EDGES.T.tolist(), drawn) if keep and target == i]
        own, each = 1.0, 1.0
        if even is True:
            own = each = 1 / (1 + len(told))
        elif even is not False and told:
            own, each = even, (1 - even) / len(told)
        parts += [(i, p[i], own), *((i, p[j], each) for j in told)]
    return edge_by_edge(parts, N + drawn.sum() if even is False else N, tau)


@pytest.mark.parametrize("even", [False, True, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("parts", [(slice(None),), torch.arange(N).split(N // 2)])
def test_krd_is_the_mean_over_kept_edges_or_over_nodes(parts: Sequence[Any], even: bool | float) -> None:
    probability = 1 - shaken()[EDGES[0]] ** 0.4
    drawn = torch.bernoulli(torch.from_numpy(probability), generator=torch.Generator().manual_seed(7)).numpy()
    every, sampled = steps("krd", (0, 5), parts=parts, tau=0.8, power=0.4, momentum=1.0, start=5, even=even)
    assert 0 < drawn.mean() < 1
    assert_same(every, krd_by_hand(0.8, np.ones(E), even))
    assert_same(sampled, krd_by_hand(0.8, drawn, even))


def test_reliable_nodes_are_listened_to() -> None:
    rho = torch.linspace(0, 1, N)
    for power in (0.3, 1.0, 4.0):
        keep = keep_reliable(rho, torch.stack([torch.arange(N), torch.arange(N).flip(0)]), power)
        assert keep[0] == 1
        assert keep[-1] == 0
        assert (keep.diff() < 0).all()


def kept(found: Sequence[Step]) -> np.ndarray:
    """How many edges were kept: a node without any has one part in N plus that number of the gradient."""
    _, alone = krd_by_hand(1.0, np.zeros(E))
    counts = np.array([N * alone[-1, 0] / gradient[-1, 0] - N for _, gradient in found])
    np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
    return counts


@pytest.mark.parametrize(
    ("name", "options"),
    [("krd", dict(start=0, power=0.7, momentum=1.0)), ("hgmd", dict(mode="plain", alpha=3.0))],
)
def test_as_many_edges_are_kept_as_is_probable(name: str, options: dict[str, Any]) -> None:
    counts = kept(steps(name, [50, 51] * 30, **options))
    krd = np.tile(1 - shaken()[EDGES[0]] ** 0.7, (2, 1))
    keep = krd if name == "krd" else np.stack([hard_by_hand(3 * 0.01**progress) for progress in (0.5, 0.51)])
    sigma = math.sqrt((keep * (1 - keep)).sum() * 30) / len(counts)
    assert abs(counts.mean() - keep.sum() / 2) < 4 * sigma
    assert counts.std() > 0


def test_noise_that_moves_nothing_leaves_every_edge() -> None:
    low = steps("ffg2m", (0,), lam=0.0, high=0.0, even=False)[0]
    assert_same(steps("krd", (60,), more={"noisy": TEACHER})[0], low)
    assert_same(steps("krd", (60,), start=61)[0], low)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 4.0])
def test_the_power_that_made_the_student_agree_is_found(power: float) -> None:
    rho = torch.rand(200_000, generator=torch.Generator().manual_seed(1))
    agrees = torch.rand(len(rho), generator=torch.Generator().manual_seed(2)) < 1 - rho**power
    assert fitted_power(rho, agrees, 0.0) == pytest.approx(power, rel=0.05)
    partly = agrees & (torch.rand(len(rho), generator=torch.Generator().manual_seed(3)) < 0.9)
    assert fitted_power(rho, partly, 0.0) == pytest.approx(power, rel=0.08)


def test_no_power_is_made_up() -> None:
    rho = torch.rand(1000, generator=torch.Generator().manual_seed(1))
    yes = torch.ones(1000, dtype=torch.bool)
    for shaken, agrees in ((rho, yes), (rho, ~yes), (rho, rho > 0.5), (rho * 0, rho > 0.5), (rho.round(), rho < 0.5)):
        assert fitted_power(shaken, agrees, 1.7) == 1.7
    assert 0.01 <= fitted_power(rho, rho < 0.999, 1.7) <= 100


# --- HGMD -------------------------------------------------------------------------------------------------------------


def hard_by_hand(alpha: float) -> np.ndarray:
    p, (ht, hs) = softmax(TEACHER.numpy()), (entropy(z) / entropy(z).max() for z in (TEACHER, STUDENT))
    keep = []
    for j, i in EDGES.T.tolist():
        cosine = p[i] @ p[j] / np.linalg.norm(p[i]) / np.linalg.norm(p[j])
        keep.append(1 - np.exp(-alpha * cosine * np.sqrt(ht[i] * hs[i]) / ht[j]))
    return np.array(keep)


@pytest.mark.parametrize("mode", ["plain", "weight", "mixup"])
@pytest.mark.parametrize("epoch", [0, 50])
@pytest.mark.parametrize("even", [False, True])
def test_hgmd_is_the_mean_over_kept_edges_or_over_nodes(mode: str, epoch: int, even: bool) -> None:
    tau, generator = 1.2, torch.Generator().manual_seed(7)
    keep, drawn = np.ones(E), np.ones(E)
    if epoch:
        keep = hard_by_hand(3 * 0.01 ** (epoch / 100))
        drawn = torch.bernoulli(torch.from_numpy(keep), generator=generator).numpy()
        assert 0.05 < drawn.mean() < 0.95
    share = np.zeros(E)
    if mode == "mixup":
        share[drawn > 0] = beta(int(drawn.sum()), generator, 0.4).double().numpy()
    p, one = softmax(TEACHER.numpy() / tau), softmax(TEACHER.numpy())
    parts: list[tuple[int, np.ndarray, float]] = []
    for i in range(N):
        told = [(i, p[i], 1.0)]
        for e in (e for e in range(E) if drawn[e] and EDGES[1, e] == i):
            j = int(EDGES[0, e])
            cosine = one[i] @ one[j] / np.linalg.norm(one[i]) / np.linalg.norm(one[j])
            w = keep[e] * share[e]
            told.append(
                (i, (1 - w) * p[i] + w * p[j], 1.0)
                if mode == "mixup"
                else (i, p[j], cosine * keep[e] if mode == "weight" else 1.0)
            )
        total = sum(w for *_, w in told) if mode == "weight" else len(told)
        parts += [(i, target, (1 if even else len(told)) * w / total) for i, target, w in told]
    expected = edge_by_edge(parts, N if even else len(parts), tau)
    found = steps("hgmd", (epoch,), mode=mode, tau=tau, alpha=3.0, beta=0.4, even=even)[0]
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    if mode == "mixup":  # the KL to a mixture is less than the mixture of KLs, by a constant
        assert found[0] > expected[0]
    else:
        assert found[0] == pytest.approx(expected[0], rel=1e-9)


def test_hard_nodes_hear_easy_ones_that_are_like_them() -> None:
    # nodes 0 to 4 from sure to unsure of class 0; all tell node 5 and all hear it
    z = torch.stack([torch.linspace(5, 0.5, 5), torch.zeros(5), torch.zeros(5)], 1)
    z = torch.cat([z, torch.tensor([[1.0, 0.0, 0.0]])]).double()
    out, into = torch.stack([torch.arange(5), torch.full((5,), 5)]), torch.stack([torch.full((5,), 5), torch.arange(5)])
    alike = torch.full((5,), 0.8, dtype=torch.float64)
    assert (keep_for_hard(z, z, alike, out, 0.1).diff() < 0).all()
    assert (keep_for_hard(z, z, alike, into, 0.1).diff() > 0).all()
    assert (keep_for_hard(z, z, torch.linspace(0, 1, 5).double(), out[:, [2] * 5], 0.1).diff() > 0).all()
    for alpha in (0.0, 1.0, 1e9):
        keep = keep_for_hard(TEACHER, STUDENT, similarity(TEACHER, EDGES), EDGES, alpha)
        assert (keep >= 0).all()
        assert (keep <= 1).all()
    sure = torch.tensor([[999.0, 0.0]]).expand(N, 2)  # no entropy at all
    assert keep_for_hard(sure, sure, torch.ones(E), EDGES, 1.0).isfinite().all()


def test_less_is_kept_as_time_goes_on() -> None:
    counts = kept(steps("hgmd", range(0, 100, 11), mode="plain", alpha=5.0))
    assert counts[0] == pytest.approx(E)
    assert np.mean(counts[1:4]) > 2 * np.mean(counts[-3:])


@pytest.mark.parametrize("mode", ["plain", "weight", "mixup"])
def test_hgmd_with_nothing_to_hear_is_glnn(mode: str) -> None:
    glnn = steps("glnn", (0,))[0]
    assert_same(steps("hgmd", (1,), mode=mode, alpha=0.0)[0], glnn)
    for name in ("hgmd", "krd"):
        assert_same(steps(name, (60,), EDGES[:, :0])[0], glnn)


# --- as a whole -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught() -> tuple[Setting, Cache]:
    graph = digits()
    setting = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    cache = train_teacher(setting, dict(type="sage", epochs=60), 0, {"noisy"}).cache
    assert cache is not None
    return setting, cache


def test_they_learn_more_than_their_control(taught: tuple[Setting, Cache]) -> None:
    setting, cache = taught
    student = StudentClassifier(hidden=(64,), dropout=0.3, epochs=60)
    control = train_student(setting, None, "supervised", student).metrics["tran"]
    methods = [dict(type="krd", start=10), *(dict(type="hgmd", mode=mode) for mode in ("plain", "weight", "mixup"))]
    for method in methods:
        assert train_student(setting, cache, method, student).metrics["tran"] > control + 0.02, method


def test_krd_tells_when_its_sampling_had_no_part(taught: tuple[Setting, Cache]) -> None:
    setting, cache = taught
    student = StudentClassifier(hidden=(16,), epochs=4)
    with pytest.warns(UserWarning, match="sampled in 0 of 4 epochs, and the epoch that was kept, .*lower start"):
        train_student(setting, cache, "krd", student)


def test_options_that_make_no_sense_are_named() -> None:
    for options, message in (
        (dict(type="hgmd", mode="mix"), "mode is one of plain, weight, mixup, not 'mix'"),
        (dict(type="hgmd", alpha=-1.0), "alpha must be at least 0"),
        (dict(type="krd", power=0.0), "power must be positive"),
        (dict(type="krd", even=-0.1), "krd: even is False, True or the share"),
    ):
        name = str(options.pop("type"))
        with pytest.raises(ValueError, match=message):
            steps(name, (0,), **options)
    with pytest.raises(ValueError, match="needs 'noisy' of the teacher"):
        StudentClassifier(method="krd").fit(
            torch.rand(9, 2), [0, 1, 0] * 3, teacher=np.zeros((9, 2)), edge_index=EDGES[:, :0]
        )


def test_edges_are_drawn_as_one_by_one_however_many_are_read_ahead() -> None:
    edges = torch.randint(50, (2, 300), generator=torch.Generator().manual_seed(1))
    alone = edges[:, torch.randint(300, (60,), generator=torch.Generator().manual_seed(0))]
    for ahead in (0, 7, 60, 64):
        draws = EdgeDraws(edges, ahead, torch.Generator().manual_seed(0))
        found = torch.cat([draws(20) for _ in range(3)], dim=1) if ahead != 7 else draws(60)
        assert torch.equal(found, alone), ahead


def test_edges_are_drawn_evenly() -> None:
    draws = EdgeDraws(torch.arange(8).expand(2, -1), 1000, torch.Generator().manual_seed(0))
    count = torch.bincount(torch.cat([draws(96)[0] for _ in range(100)]), minlength=8)
    assert chisquare(count.numpy()).pvalue > 1e-3
