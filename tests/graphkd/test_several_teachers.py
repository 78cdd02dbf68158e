"""Several teachers at once: what they are told, how they are joined, and that every recipe can learn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.special import softmax
from torch import Tensor, nn

import kdlosses
from graphkd import Cache, StudentClassifier, cpf_split, digits, distill, make_setting, train_student, train_teacher
from graphkd.data import Graph, Setting, restrict
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.recipes import partition
from graphkd.recipes.mst_distill import mst_distill
from graphkd.recipes.mtard import mtard
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History

CONTRACT = [
    RecipeContract(
        "mtard",
        options=dict(steps=1, ask=False),
        undrawn=dict(noise=0.0, ask=False),
        short=dict(ask=False),
        without_edges=dict(ask=False),
    ),
    RecipeContract(
        "mst_distill",
        options=dict(ask=False),
        undrawn=dict(ask=False),
        short=dict(ask=False),
        without_edges=dict(ask=False),
    ),
    RecipeContract("distill_weighted", reads_labels="labels say which source is like the task"),
    RecipeContract("partition", reads_labels="its student has learnt from the labels before"),
]

QUICK = StudentClassifier(hidden=(32,), dropout=0.3, epochs=20)
SAGE = dict(type="sage", hidden=16, epochs=20)
GCN = dict(type="gcn", hidden=24, epochs=20)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def setting(graph: Graph) -> Setting:
    return make_setting(graph, cpf_split(graph.y, 0), "ind", 0)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, [SAGE, GCN])


def test_each_is_trained_and_the_cache_holds_all(setting: Setting, taught: Outcome) -> None:
    alone = train_teacher(setting, SAGE)
    assert taught.cache is not None
    assert alone.cache is not None
    assert taught.cache.logits.shape == (1797, 20)
    first, second = taught.cache.split()
    np.testing.assert_array_equal(first.logits, alone.cache.logits)
    np.testing.assert_array_equal(first.hidden[0], alone.cache.hidden[0])
    assert second.hidden[0].shape == (1797, 24)
    assert [told["type"] for told in taught.cache.settings["teacher"]] == ["sage", "gcn"]


def test_two_of_a_kind_are_two(setting: Setting) -> None:
    both = train_teacher(setting, [SAGE, SAGE]).cache
    assert both is not None
    one, two = both.split()
    assert not np.allclose(one.logits[setting.observed], two.logits[setting.observed])


def test_their_metric_is_that_of_the_mean_prediction(setting: Setting, taught: Outcome, graph: Graph) -> None:
    assert taught.cache is not None
    p = [softmax(each.logits[setting.test.numpy()], axis=1) for each in taught.cache.split()]
    right = (p[0] + p[1]).argmax(1) == graph.y[setting.test].numpy()
    assert taught.metrics["observed"] == pytest.approx(right.mean())
    unseen = setting.unseen.numpy()
    joined = taught.model(graph.x, graph.edge_index).detach().numpy()[unseen]
    mean = sum(softmax(z, axis=1) for z in np.split(joined, 2, axis=1))
    assert taught.metrics["ind"] == pytest.approx((mean.argmax(1) == graph.y[unseen].numpy()).mean())


def test_any_recipe_hears_the_mean(setting: Setting, taught: Outcome) -> None:
    """`glnn` on several teachers is `terms` with `average`, and is `glnn` on the mean."""
    x = setting.whole.x
    average = dict(type="terms", distills=[dict(loss="average")])
    one, two = (
        train_student(setting, taught.cache, method, QUICK).model.predict_proba(x) for method in ("glnn", average)
    )
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert taught.cache is not None
    p = [softmax(each.logits, axis=1) for each in taught.cache.split()]
    mean = Cache(np.log((p[0] + p[1]) / 2), taught.cache.node_id, taught.cache.observed, taught.cache.fingerprint)
    np.testing.assert_allclose(train_student(setting, mean, "glnn", QUICK).model.predict_proba(x), one, atol=1e-4)
    assert train_student(setting, taught.cache, dict(type="ffg2m", lam=0.5), QUICK).metrics["observed"] > 0.8


def test_hidden_layers_are_counted_through(setting: Setting, taught: Outcome) -> None:
    widths = []

    def probe(student: Tensor, teacher: Tensor) -> Tensor:
        widths.append(teacher.shape[1])
        return (student - student.detach()).sum() + kdlosses.mse(student, student)

    entries = [dict(loss=probe, student="hidden", teacher=f"hidden:{i}") for i in range(2)]
    train_student(setting, taught.cache, dict(type="terms", distills=entries, lam=0.5), QUICK)
    assert set(widths) == {16, 24}


def test_caches_teach_from_disk_as_the_teachers_did(graph: Graph, tmp_path: Path) -> None:
    live = distill(graph, [SAGE, GCN], "glnn", student=QUICK, setting="ind")
    live.cache.save(tmp_path / "both")
    stored = Cache.load(tmp_path / "both")
    for given in (stored, stored.split()):
        again = distill(graph, given, "glnn", student=QUICK)
        assert np.array_equal(again.student.predict_proba(graph.x), live.student.predict_proba(graph.x))
        assert again.metrics["teacher"]["observed"] == live.metrics["teacher"]["observed"]


def test_what_does_not_fit_is_refused_before_training(graph: Graph, setting: Setting, taught: Outcome) -> None:
    with pytest.raises(KeyError, match="no teacher is called 'gca'"):
        distill(graph, ["sage", "gca"])
    with pytest.raises(ValueError, match="list of teachers is empty"):
        distill(graph, [])
    bare = StudentClassifier(method=dict(type="terms", distills=[dict(loss="kl")]), epochs=2)
    assert taught.cache is not None
    with pytest.raises(ValueError, match=r"student 'logits' is 10 wide, teacher 'logits' 20"):
        train_student(setting, taught.cache, bare.method, bare)
    small = Cache(
        taught.cache.logits[:, :8], taught.cache.node_id, taught.cache.observed, "f00d", parts=((4, 0), (4, 0))
    ).take(setting.observed.numpy())
    with pytest.raises(ValueError, match="the teacher has 4 classes"):
        bare.fit(setting.seen.x, setting.seen.y, teacher=small, labelled=setting.train)


# --- what a teacher is told -------------------------------------------------------------------------------------------


def test_shards_share_no_node_and_leave_none(setting: Setting) -> None:
    shards = [restrict(setting, shard=(k, 3), seed=5).train for k in range(3)]
    assert torch.equal(torch.cat(shards).sort().values, setting.train.sort().values)
    assert not torch.equal(restrict(setting, shard=(0, 3), seed=6).train, shards[0])


def test_known_classes_are_the_only_ones_told(setting: Setting) -> None:
    view = restrict(setting, known=[2, 3])
    assert set(view.seen.y[view.train].tolist()) == set(view.seen.y[view.val].tolist()) == {2, 3}
    assert view.seen.num_classes == 10
    assert torch.equal(view.test, setting.test)


def test_a_task_of_its_own_has_its_own_classes(setting: Setting, graph: Graph) -> None:
    view = restrict(setting, task=[0, 1, -1, 0, 1, 0, 1, 0, 1, 2])
    assert view.seen.num_classes == 3
    assert (graph.y[view.test] != 2).all()
    assert (view.whole.y[graph.y == 9] == 2).all()
    assert (view.seen.y[setting.seen.y == -1] == -1).all()  # what was hidden stays hidden
    taught = train_teacher(setting, dict(type="sage", epochs=30, task=[0, 1] * 5))
    assert taught.cache is not None
    assert taught.cache.logits.shape == (1797, 2)
    assert taught.cache.own_tasks
    odd = taught.cache.logits[setting.test.numpy()].argmax(1) == graph.y[setting.test].numpy() % 2
    assert taught.metrics["observed"] == pytest.approx(odd.mean())
    assert odd.mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shard=(3, 3)), "part i from 0 of k parts"),
        (dict(known=[10]), "class numbers"),
        (dict(known=[1], task=[0, 1] * 5), "not both"),
        (dict(task=[0, 1]), "must map the 10 classes"),
        (dict(task=[0] * 10), "two classes or more"),
        (dict(known=[0.5]), "list of class numbers"),
    ],
)
def test_a_wrong_share_is_named(setting: Setting, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restrict(setting, **options)  # type: ignore[arg-type]


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_sources_with_tasks_of_their_own_teach_through_heads(setting: Setting) -> None:
    sources = [
        dict(type="sage", epochs=30, task=[0, 1, 2, 3, 4, 5, 6, 7, 8, -1]),
        dict(type="sage", epochs=30, task=[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
    ]
    taught = train_teacher(setting, sources)
    assert taught.cache is not None
    assert taught.cache.parts == ((9, 1), (2, 1))
    student = StudentClassifier(hidden=(32,), dropout=0.3, epochs=50)
    control = train_student(setting, None, "supervised", student)
    for options in (dict(power=2.0), dict(nearest=True)):
        found = train_student(setting, taught.cache, dict(type="distill_weighted", **options), student)
        assert found.metrics["observed"] > control.metrics["observed"]
        assert list(found.model.network_.state_dict()) == list(control.model.network_.state_dict())  # no heads left
    with pytest.raises(ValueError, match="their own classes"):
        train_student(setting, taught.cache, "glnn", student)


def test_a_partitioned_student_starts_where_the_control_ended(setting: Setting, taught: Outcome) -> None:
    assert taught.cache is not None
    seen: list[Tensor] = []

    def record(student: Tensor, teacher: Tensor) -> Tensor:
        seen.append(teacher)
        return kdlosses.LOSSES["kl"](student, teacher)  # type: ignore[return-value, operator]

    train_student(setting, taught.cache, dict(type="partition", loss=record), QUICK)
    control = train_student(setting, None, "supervised", QUICK)
    x = setting.seen.x
    start = torch.from_numpy(control.model.predict_proba(x))
    both = [
        torch.from_numpy(softmax(each.logits[setting.observed.numpy()], axis=1)).double()
        for each in taught.cache.split()
    ]
    surest = torch.stack([*both, start]).amax(2).max(0).values
    torch.testing.assert_close(seen[0].double().softmax(1).amax(1), surest, atol=1e-4, rtol=1e-4)
    assert torch.equal(seen[0], seen[-1])  # the start is frozen


def test_votes_are_counted_from_the_second_epoch_on(setting: Setting, taught: Outcome) -> None:
    x = setting.whole.x

    def predicted(epochs: int, **options: object) -> np.ndarray:
        student = StudentClassifier(hidden=(32,), epochs=epochs)
        return train_student(setting, taught.cache, dict(type="voting", **options), student).model.predict_proba(x)

    assert np.array_equal(predicted(1), predicted(1, votes=0.0))
    assert not np.array_equal(predicted(4), predicted(4, votes=0.0))
    glnn = train_student(setting, taught.cache, "glnn", StudentClassifier(hidden=(32,), epochs=4)).model.predict_proba(
        x
    )
    assert np.array_equal(predicted(4, votes=0.0), glnn)


def test_a_student_that_was_attacked_stands_an_attack_better(setting: Setting, taught: Outcome) -> None:
    """Accuracy on features moved by the sign of the gradient, as far as training moved them; no teacher is robust."""
    x, y = setting.whole.x[setting.test], setting.whole.y[setting.test]
    student = StudentClassifier(hidden=(32,), epochs=60)
    accuracy = {}
    for method in ("glnn", dict(type="mtard", radius=0.15, step=0.05, steps=4, ask=False)):
        network = train_student(setting, taught, method, student).model.network_
        moved = x.clone().requires_grad_()
        nn.functional.cross_entropy(network(moved), y).backward()
        attacked = network(x + 0.15 * moved.grad.sign()).argmax(1)  # type: ignore[union-attr]
        accuracy[str(method)] = (attacked == y).double().mean().item()
    plain, hardened = accuracy.values()
    assert hardened > plain + 0.05


def test_an_attack_stays_within_its_radius(setting: Setting, taught: Outcome) -> None:
    seen: list[Tensor] = []

    class Watched(MLP):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach())
            return super().forward(x)

    def one_step(model: nn.Module, loss: object, count: int) -> History:
        loss(slice(None))  # type: ignore[operator]
        return History()

    features = setting.seen.x
    teacher = torch.randn(len(features), 10)
    lesson = Lesson(features, torch.full((len(features),), -1), one_step, torch.Generator().manual_seed(0), teacher)
    mtard(Watched(64, (16,), 10), lesson, radius=0.02, step=0.01, steps=5, ask=False)
    final = seen[-1]
    assert (final - features).abs().max() <= 0.02 + 1e-6
    assert (final - features).abs().max() > 0.019
    with pytest.raises(ValueError, match="attack is 'eval' or 'train'"):
        mtard(MLP(64, (16,), 10), lesson, attack="hard")  # type: ignore[arg-type]


def test_partition_names_a_weight_that_is_none(setting: Setting) -> None:
    lesson = Lesson(setting.seen.x, setting.seen.y, lambda *_: History(), torch.Generator())
    with pytest.raises(ValueError, match="lam is the weight of the labels"):
        partition(MLP(64, (16,), 10), lesson, lam=2.0)


def test_each_teacher_is_masked_inside_for_the_student(setting: Setting, taught: Outcome) -> None:
    """Masked features go through its own layers; the student hears that, and only the masks learn from their loss."""
    assert taught.cache is not None
    assert taught.live is not None
    seen, cache = setting.seen, taught.cache.take(setting.observed.numpy())
    kept: list[Any] = []

    def one_step(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        kept.extend([trained, loss])
        return History()

    clock = Clock()
    given = (seen.x, torch.full((len(seen),), -1), one_step, torch.Generator(), cache.logits, seen.edge_index, None)
    lesson = Lesson(*given, cache.hidden, clock, parts=cache.parts, live=taught.live)
    torch.manual_seed(0)
    model = MLP(64, (16,), 10)
    mst_distill(model, lesson, balance=0.0, rebuild=0.5, start=0.5)
    (_, policy, masks), loss = kept[0], kept[1]
    z = model(seen.x).detach()
    masked, own = [], 0.0
    for network, mask, h in zip(taught.live.networks, masks, map(torch.from_numpy, cache.hidden)):
        moved = mask(h).sigmoid() * h
        masked.append(network.layers[-1](moved, seen.edge_index))
        apart = (moved - h).square().sum() / h.square().sum()
        own += (kdlosses.kl(masked[-1], z, tau=4.0) + 0.5 * apart).item() / 2
    for clock.progress, heard in ((0.5, torch.cat(masked, 1).detach()), (0.4, torch.from_numpy(cache.logits))):
        assert loss(slice(None)).item() == pytest.approx(policy(z, heard).item() + own, rel=1e-4)
    before = sum(kdlosses.kl(each, z, tau=4.0).item() for each in masked)
    optimiser = torch.optim.Adam(masks.parameters(), 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        loss(slice(None)).backward()
        optimiser.step()
    after = [
        taught.live.upper(mask(h).sigmoid() * h, which=k)
        for k, (mask, h) in enumerate(zip(masks, map(torch.from_numpy, cache.hidden)))
    ]
    assert sum(kdlosses.kl(each, z, tau=4.0).item() for each in after) < 0.8 * before
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_teacher_without_a_hidden_layer_has_nothing_to_mask(setting: Setting) -> None:
    outcome = train_teacher(setting, [SAGE, dict(type="sgc", epochs=2)])
    with pytest.raises(ValueError, match="masks the last hidden layer of each teacher, and one has none: ask=False"):
        train_student(setting, outcome, "mst_distill", QUICK)
