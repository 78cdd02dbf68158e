"""AdaGMLP on the digits graph: the weights of nodes and members, the ensemble, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.special import softmax
from torch import Tensor, nn

from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.networks.boosted import Boosted
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import adagmlp
from graphkd.recipes.adagmlp import boosted, without_some
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = RecipeContract("adagmlp", options=dict(members=2), undrawn=dict(members=2, mask=0.0, lam=0.0))

QUICK = StudentClassifier(hidden=(32,), dropout=0.3, epochs=40)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=40, hidden=48))


def divergence(student: Tensor, teacher: Tensor, tau: float) -> np.ndarray:
    p, q = (softmax(z.detach().double().numpy() / tau, axis=1) for z in (teacher, student))
    return (p * np.log(p / q)).sum(1)


def test_weights_follow_the_formula() -> None:
    rng = np.random.default_rng(0)
    weight, gap = rng.random(50), rng.random(50)
    error = 1 - np.exp(-2.5 * gap)
    mean = np.average(error, weights=weight)
    alpha, after = boosted(torch.from_numpy(weight), torch.from_numpy(gap), 2.5)
    expected = weight * np.exp(max(np.log((1 - mean) / mean), 1e-16) * error)
    assert alpha.item() == pytest.approx(max(np.log((1 - mean) / mean), 1e-16))
    np.testing.assert_allclose(after.numpy(), expected / expected.sum(), rtol=1e-9)


def test_harder_nodes_gain_weight_and_weights_sum_to_one() -> None:
    start, gap = torch.full((40,), 1 / 40, dtype=torch.float64), torch.linspace(0, 1, 40)
    _, after = boosted(start, gap, 0.5)
    assert after.sum().item() == pytest.approx(1)
    assert (after.diff() > 0).all()
    _, again = boosted(after, gap, 0.5)
    assert again[-1] / again[0] > after[-1] / after[0]


@pytest.mark.parametrize(("gap", "alpha"), [(0.0, np.log(1e12)), (1e9, 1e-16)])
def test_one_without_error_and_one_always_wrong_are_finite(gap: float, alpha: float) -> None:
    start = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    found, after = boosted(start, torch.full((3,), gap), 1.0)
    assert found.item() == pytest.approx(alpha)
    torch.testing.assert_close(after, start)  # all nodes are as hard


def test_the_ensemble_is_the_weighted_mean_of_predictions() -> None:
    torch.manual_seed(0)
    model, x = Boosted(6, (5,), 4, dropout=0.5).eval(), 3 * torch.randn(20, 6)
    assert torch.equal(model(x), model.members[0](x))
    model.add().eval()
    model.add().eval()
    assert model.alphas.tolist() == [1, 1, 1]
    model.alphas.copy_(torch.tensor([0.5, 2.0, 1e-16]))
    each = [softmax(member(x).detach().double().numpy(), axis=1) for member in model.members]
    expected = (0.5 * each[0] + 2.0 * each[1] + 1e-16 * each[2]) / 2.5
    np.testing.assert_allclose(model(x).detach().exp().numpy(), expected, rtol=1e-4, atol=1e-7)


def test_it_begins_as_the_mlp_that_the_control_is() -> None:
    networks = []
    for build in (MLP, Boosted):
        torch.manual_seed(0)
        networks.append(build(6, (5,), 4))
    one, other = (list(network.parameters()) for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_saved_student_has_all_its_members_again(
    setting: Setting, taught: Outcome, tmp_path: Path, norm: Any
) -> None:
    quick = StudentClassifier(hidden=(16,), epochs=15, norm=norm)
    student = train_student(setting, taught.cache, dict(type="adagmlp", members=3, beta=0.1), quick).model
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    assert len(again.network_.members) == 3
    assert len(set(student.network_.alphas.tolist())) == 3
    x = setting.whole.x
    assert np.array_equal(again.predict_proba(x), student.predict_proba(x))


@pytest.mark.parametrize("carry", [True, False])
def test_a_taught_ensemble_beats_its_control(setting: Setting, taught: Outcome, carry: bool) -> None:
    control = train_student(setting, None, "supervised", QUICK)
    student = train_student(setting, taught.cache, dict(type="adagmlp", members=2, tau=1.0, carry=carry), QUICK)
    assert student.metrics["tran"] > control.metrics["tran"]
    history = student.model.history_
    assert len(history.seconds) == history.epochs == 40  # all members take their steps together
    assert history.score == student.val
    assert student.oracle_test_best is not None
    assert student.oracle_test_best > 0.85


def lesson_of(setting: Setting, steps: int = 0, keep: list[Any] | None = None, told: int | None = None) -> Lesson:
    """What they learn from: so many real steps, after which the loss is kept; with as many labels as `told`."""
    seen = setting.seen
    teacher = 2 * torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))

    def short(model: nn.Module, loss: Any, count: int) -> History:
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(slice(None)).backward()
            optimiser.step()
        if keep is not None:
            keep.append(loss)
        return History()

    labels = torch.full((len(seen),), -1)
    labels[setting.train[:told]] = seen.y[setting.train[:told]]
    return Lesson(seen.x, labels, short, torch.Generator().manual_seed(2), teacher)


def ensemble(lesson: Lesson, **options: Any) -> Boosted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Boosted(64, (16, 12), 10)
        adagmlp(model, lesson, **options)
    return model


@pytest.mark.parametrize("carry", [True, False])
def test_members_pay_for_what_those_before_them_fit_badly(setting: Setting, carry: bool) -> None:
    """The loss of several steps in NumPy, with the weights of nodes and of members."""
    keep: list[Any] = []
    lesson = lesson_of(setting, 0 if carry else 30, keep)  # what they carry starts here
    model = ensemble(lesson, lam=0.0, members=3, tau=0.7, beta=0.5, mask=0.0, carry=carry)
    weight, loss = np.full(len(lesson), 1 / len(lesson)), keep[0]
    for _ in range(3):
        expected = 0.0
        if not carry:
            weight = np.full(len(lesson), 1 / len(lesson))
        value = loss(slice(None)).item()
        for k, member in enumerate(model.members):
            z = member(lesson.x)
            expected += (weight * divergence(z, lesson.teacher, 0.7)).sum() / 3
            error = 1 - np.exp(-0.5 * divergence(z, lesson.teacher, 1.0))
            alpha = max(np.log(1 / (weight * error).sum() - 1), 1e-16)
            assert model.alphas[k].item() == pytest.approx(alpha, rel=1e-4)
            weight = weight * np.exp(alpha * error)
            weight /= weight.sum()
            assert np.corrcoef(weight, error)[0, 1] > 0.3  # what this one has not learnt counts for more
        assert value == pytest.approx(expected, rel=1e-4)


def test_batches_of_equal_size_stand_for_the_whole(setting: Setting) -> None:
    keep: list[Any] = []
    model = ensemble(lesson_of(setting, 0, keep), lam=0.0, members=1, mask=0.0, carry=False)
    parts = torch.arange(len(setting.seen)).split(599)
    assert len({len(part) for part in parts}) == 1
    whole, in_parts = keep[0](slice(None)).item(), np.mean([keep[0](part).item() for part in parts])
    assert in_parts == pytest.approx(whole, rel=1e-5)
    assert len(model.members) == 1
    start, gap = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.tensor([0.5, 2.0])
    alpha, after = boosted(start, gap, 1.0, torch.tensor([3, 1]))
    own, told = boosted(start[[3, 1]], gap, 1.0)
    assert alpha == own
    torch.testing.assert_close(after[[3, 1]] / after[[3, 1]].sum(), told)
    assert (after[2] / after[0]).item() == pytest.approx(3)
    assert after.sum().item() == pytest.approx(1)


def test_each_member_is_told_other_labels(setting: Setting) -> None:
    """The loss with labels is the mean over members of that on their part, and no label has two of them."""
    keep: list[Any] = []
    lesson = lesson_of(setting, 0, keep)
    model = ensemble(lesson, lam=0.5, members=3, mask=0.0, carry=False)
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        order = torch.randperm(len(lesson.labelled), generator=generator)
        parts = lesson.labelled[order].numpy()
        expected = 0.0
        weight = np.full(len(lesson), 1 / len(lesson))
        for member, part in zip(model.members, np.array_split(parts, 3)):
            z = member(lesson.x)
            log_p = np.log(softmax(z.detach().double().numpy(), axis=1))
            expected -= log_p[part, lesson.labels[part]].mean()
            expected += (weight * divergence(z, lesson.teacher, 0.4)).sum()
            weight = boosted(torch.from_numpy(weight), torch.from_numpy(divergence(z, lesson.teacher, 1.0)), 1.0)[1]
            weight = weight.numpy()
        assert keep[0](slice(None)).item() == pytest.approx(expected / 6, rel=1e-4)


def test_alignment_compares_every_hidden_layer_with_features_left_out(setting: Setting) -> None:
    for align in (0.0, 0.3, 1.0):
        keep: list[Any] = []
        lesson = lesson_of(setting, 0, keep)
        options = dict(lam=0.0, members=1, align=align, carry=False)
        member = ensemble(lesson, mask=0.4, **options).members[0]
        ensemble(lesson_of(setting, 0, keep), mask=0.0, **options)
        generator = torch.Generator().manual_seed(2)
        x = lesson.x[lesson.labelled[torch.randperm(len(lesson.labelled), generator=generator)]]
        drawn = torch.rand(x.shape, generator=generator).double().numpy()
        less = x.double().numpy().copy()
        for row, order in zip(less, np.argsort(-drawn, axis=1)):
            total = row.sum()
            row[order[: int(0.4 * 64)]] = 0
            row *= total / row.sum()
        (h1, h2, z), (g1, g2, y) = (
            [out.detach().double().numpy() for out in member.outputs(each)] for each in (x, torch.tensor(less).float())
        )
        log_p, log_q = (np.log(softmax(out, axis=1)) for out in (z, y))
        hidden = (((h1 - g1) ** 2).mean() + ((h2 - g2) ** 2).mean()) / 2
        expected = align * ((log_p - log_q) ** 2).mean() + (1 - align) * hidden
        assert expected > 1e-4
        assert (keep[0](slice(None)) - keep[1](slice(None))).item() == pytest.approx(expected, rel=3e-3)


def test_what_is_left_out() -> None:
    x = torch.rand(50, 10)
    left = without_some(x, 0.35, torch.Generator().manual_seed(0))
    assert ((left == 0).sum(1) == 3).all()
    torch.testing.assert_close(left.sum(1), x.sum(1))
    signed = without_some(x - 0.5, 0.35, torch.Generator().manual_seed(0))
    torch.testing.assert_close(signed, (x - 0.5) * (left > 0))
    alone = torch.eye(4)
    assert without_some(alone, 0.99, torch.Generator()).isfinite().all()


def test_more_members_than_labels(setting: Setting) -> None:
    keep: list[Any] = []
    ensemble(lesson_of(setting, 2, keep, told=2), lam=0.5, members=3)
    assert keep[0](slice(None)).isfinite()


def test_options_out_of_range_are_named() -> None:
    lesson = Lesson(torch.ones(4, 3), torch.zeros(4).long(), lambda *_: History(), torch.Generator(), torch.ones(4, 2))
    for wrong in (dict(members=0), dict(tau=0.0), dict(beta=0.0), dict(align=2.0), dict(mask=1.0)):
        with pytest.raises(ValueError, match="adagmlp: members is at least 1"):
            adagmlp(Boosted(3, (), 2), lesson, **wrong)
    adagmlp(Boosted(3, (), 2), lesson, members=2)  # without hidden layers predictions alone are aligned


def test_a_state_of_fewer_members_leaves_as_many() -> None:
    one, three = Boosted(4, (3,), 2), Boosted(4, (3,), 2)
    start = {name: each.clone() for name, each in three.state_dict().items()}
    three.add()
    three.add()
    three.load_state_dict(start)
    one.load_state_dict(start)
    assert len(three.members) == len(three.alphas) == 1
    assert torch.equal(three(torch.ones(5, 4)), one(torch.ones(5, 4)))


def test_a_method_around_it_may_fit_it_several_times(setting: Setting, taught: Outcome) -> None:
    method = dict(type="selfdistill", method=dict(type="adagmlp", members=2))
    student = train_student(setting, taught.cache, method, StudentClassifier((8,), epochs=2)).model
    assert len(student.network_.members) == 2
