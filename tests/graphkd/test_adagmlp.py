"""AdaGMLP on the digits graph: the weights of nodes and members, the ensemble, and its training in stages."""

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
from graphkd.recipes.adagmlp import boosted
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = RecipeContract("adagmlp", options=dict(members=2), undrawn=dict(members=2, mask=0.0))

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


def test_the_first_member_does_not_know_of_the_others(setting: Setting, taught: Outcome) -> None:
    one, two = (
        train_student(setting, taught.cache, dict(type="adagmlp", members=k), QUICK).model.network_ for k in (1, 2)
    )
    assert (len(one.members), len(two.members)) == (1, 2)
    x = setting.whole.x
    assert torch.equal(one.members[0](x), two.members[0](x))
    assert not torch.equal(two.members[0](x), two.members[1](x))


def test_a_taught_ensemble_beats_its_control(setting: Setting, taught: Outcome) -> None:
    control = train_student(setting, None, "supervised", QUICK)
    student = train_student(setting, taught.cache, dict(type="adagmlp", members=2, tau=1.0), QUICK)
    assert student.metrics["tran"] > control.metrics["tran"]
    history = student.model.history_
    assert len(history.seconds) == history.epochs == 80
    assert history.best_epoch >= 40  # of the last member
    assert history.score == student.val
    assert student.oracle_test_best is not None
    assert student.oracle_test_best > 0.85


def stages(setting: Setting, steps: int, **options: Any) -> tuple[list[tuple[MLP, Any]], Boosted, Lesson, Tensor]:
    """Members with the loss that each was to minimise, after a few steps of it, and what they learnt from."""
    seen, kept = setting.seen, []
    teacher = 2 * torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))

    def short(model: nn.Module, loss: Any, count: int) -> History:
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(slice(None)).backward()
            optimiser.step()
        kept.append((model, loss))
        return History()

    labels = torch.full((len(seen),), -1)
    labels[setting.train] = seen.y[setting.train]
    torch.manual_seed(0)
    model = Boosted(64, (16,), 10)
    lesson = Lesson(seen.x, labels, short, torch.Generator().manual_seed(2), teacher)
    adagmlp(model, lesson, **options)
    return kept, model, lesson, teacher


def test_each_member_minimises_the_weighted_divergence(setting: Setting) -> None:
    members, model, lesson, teacher = stages(setting, 30, lam=0.0, members=3, tau=0.7, beta=0.5, mask=0.0)
    weight = np.full(len(lesson), 1 / len(lesson))
    for k, (member, loss) in enumerate(members):
        gap = divergence(member(lesson.x), teacher, 0.7)
        assert loss(slice(None)).item() == pytest.approx((weight * gap).sum(), rel=1e-4)
        parts = torch.arange(len(lesson)).split(599)  # three batches of equal size stand for the whole
        assert np.mean([loss(part).item() for part in parts]) == pytest.approx((weight * gap).sum(), rel=1e-4)
        error = 1 - np.exp(-0.5 * gap)
        alpha = max(np.log(1 / (weight * error).sum() - 1), 1e-16)
        assert model.alphas[k].item() == pytest.approx(alpha, rel=1e-4)
        weight = weight * np.exp(alpha * error)
        weight /= weight.sum()
        assert np.corrcoef(weight, gap)[0, 1] > 0.3  # what this one has not learnt counts for more


def test_alignment_compares_with_features_left_out(setting: Setting) -> None:
    for align in (0.0, 0.3, 1.0):
        members, _, lesson, _ = stages(setting, 0, lam=0.0, members=1, align=align, mask=0.4)
        plain = stages(setting, 0, lam=0.0, members=1, align=align, mask=0.0)[0][0][1](slice(None)).item()
        member, loss = members[0]
        generator = torch.Generator().manual_seed(2)
        told = (lesson.labels >= 0).nonzero().flatten()
        x = lesson.x[told[torch.randperm(len(told), generator=generator)]]
        kept = torch.rand(x.shape, generator=generator) >= 0.4
        (h, z), (h_part, z_part) = (
            [out.detach().double().numpy() for out in member.outputs(seen)] for seen in (x, x * kept)
        )
        log_p, log_q = (np.log(softmax(out, axis=1)) for out in (z, z_part))
        expected = align * ((log_p - log_q) ** 2).mean() + (1 - align) * ((h - h_part) ** 2).mean()
        assert loss(slice(None)).item() - plain == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_options_out_of_range_are_named() -> None:
    lesson = Lesson(torch.ones(4, 3), torch.zeros(4).long(), lambda *_: History(), torch.Generator(), torch.ones(4, 2))
    for wrong in (dict(members=0), dict(tau=0.0), dict(beta=0.0), dict(align=2.0), dict(mask=1.0)):
        with pytest.raises(ValueError, match="adagmlp: members is at least 1"):
            adagmlp(Boosted(3, (), 2), lesson, **wrong)
    adagmlp(Boosted(3, (), 2), lesson, members=2)  # without hidden layers predictions alone are aligned
