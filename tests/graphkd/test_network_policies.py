"""Policies about networks on the digits graph: what is said of each of them, measured."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from contract.entry import RecipeContract
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import kdlosses
from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.networks.with_output import WithOutput
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import dho, dual_head, m2m
from graphkd.teachers import TEACHERS
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train
from kdlosses.rules import conditional_information

CONTRACT = [
    RecipeContract("incremental", options=dict(memory=10**6), undrawn=dict(memory=10**6), without_edges=dict(old=2)),
    RecipeContract(
        "m2m", options=dict(epochs=5, wide=48), undrawn=dict(epochs=5, wide=48), short=dict(epochs=2, wide=24, narrow=8)
    ),
    RecipeContract(
        "weight_align",
        options=dict(method="glnn"),
        undrawn=dict(method="glnn"),
        no_control="it changes the last layer after any training",
        without_edges=dict(method=dict(type="incremental", old=2)),
    ),
    RecipeContract("dual_head", undrawn=dict(dropout=0.0), learns_less="the head that is kept hears of labels alone"),
    RecipeContract(
        "random_teacher",
        undrawn=dict(epochs=20),
        no_control="its last layer is a logistic regression, whatever the labels weigh",
        reads_labels="its last layer is a logistic regression on the labels",
        learns_less="a linear classifier on features that nobody taught anything",
        short=dict(epochs=2),
        several_labels="its last layer is a logistic regression, of two classes at least",
    ),
    RecipeContract("selfdistill", undrawn=dict(lam=0.5), several_labels="some labels are held out"),
    RecipeContract(
        "tfkd_self",
        reads_labels="its teacher is a student that learnt from the labels",
        learns_less="no teacher from outside",
    ),
]

QUICK = StudentClassifier(hidden=(32,), dropout=0.3, epochs=40)
LONGER = StudentClassifier(hidden=(64,), dropout=0.3, epochs=100)
SAGE = dict(type="sage", epochs=40, hidden=48)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, SAGE)


@pytest.fixture(scope="module")
def control(setting: Setting) -> Outcome:
    return train_student(setting, None, "supervised", QUICK)


def studied(
    setting: Setting, taught: Outcome, name: str, student: StudentClassifier = QUICK, **options: Any
) -> Outcome:
    return train_student(setting, taught.cache, dict(type=name, **options), student)


def lesson_of(setting: Setting, teacher: Tensor, train: Callable[..., History]) -> Lesson:
    labels = torch.full((len(setting.seen),), -1)
    labels[setting.train] = setting.seen.y[setting.train]
    return Lesson(setting.seen.x, labels, train, torch.Generator().manual_seed(0), teacher)


# --- teachers ---------------------------------------------------------------------------------------------------------


def test_a_tuned_teacher_tells_the_members_of_a_class_apart_and_stays_good(setting: Setting, taught: Outcome) -> None:
    def spread(outcome: Outcome) -> float:
        assert outcome.cache is not None
        logits = torch.from_numpy(outcome.cache.logits)[setting.train]
        return conditional_information(logits, setting.seen.y[setting.train]).item()

    plain, tuned = (train_teacher(setting, dict(**SAGE, tune=dict(type="mcmi", lam=lam))) for lam in (0.0, 0.5))
    assert spread(tuned) > 1.5 * spread(plain)
    assert tuned.metrics["tran"] > taught.metrics["tran"] - 0.03
    assert tuned.cache is not None
    assert tuned.cache.settings["teacher"]["tune"] == dict(type="mcmi", lam=0.5)
    assert tuned.val is not None


def test_a_wrong_tune_is_named_before_training(setting: Setting) -> None:
    with pytest.raises(KeyError, match="no tune is called 'mcmii'; did you mean 'mcmi'"):
        train_teacher(setting, dict(**SAGE, tune="mcmii"))
    with pytest.raises(TypeError, match="tune 'mcmi' has no option 'lamb'"):
        train_teacher(setting, dict(**SAGE, tune=dict(type="mcmi", lamb=0.1)))


def test_a_teacher_of_no_epoch_is_as_random_as_it_was_made(setting: Setting, control: Outcome) -> None:
    random = train_teacher(setting, dict(type="gcn", epochs=0), seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        fresh = TEACHERS["gcn"](64, 10)
    assert all(torch.equal(a, b) for a, b in zip(random.model.parameters(), fresh.parameters(), strict=True))
    assert not random.model.training  # else its dropout would speak to the students
    assert random.val is None
    assert random.metrics["tran"] < 0.4
    assert studied(setting, random, "glnn", lam=0.0).metrics["tran"] < 0.5 < control.metrics["tran"]


# --- where students start, and what they are taught by ----------------------------------------------------------------


def test_the_weight_of_the_labels_follows_the_worth_of_the_teacher(setting: Setting) -> None:
    seen, truth = setting.seen, F.one_hot(setting.whole.y, 10).float()
    noise = torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(0))
    found = []
    for teacher in (6 * truth, 0.5 * truth + noise, 3 * noise):
        student = StudentClassifier((32,), 0.0, method="selfdistill", epochs=30, random_state=0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            student.fit(seen.x, seen.y, teacher=teacher, labelled=setting.train)
        weight = student.history_.label_weight
        found.append(weight)
        assert [f"{weight:.3f}" in str(each.message) for each in told] == ([] if 0 <= weight <= 1 else [True])
    assert found[0] < 0.1 < found[1] < found[2]
    assert found[2] > 0.9


def test_a_given_weight_is_the_method_itself(setting: Setting, taught: Outcome) -> None:
    one = studied(setting, taught, "selfdistill", lam=0.3, method="ffg2m").model.predict_proba(setting.whole.x)
    two = studied(setting, taught, "ffg2m", lam=0.3).model.predict_proba(setting.whole.x)
    assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="lam is what is fitted"):
        studied(setting, taught, "selfdistill", method=dict(type="glnn", lam=0.5))


def test_each_step_learns_from_the_student_of_the_step_before(setting: Setting, taught: Outcome) -> None:
    seen = setting.seen
    quick = dict(epochs=20, random_state=0)

    def fitted(method: dict[str, object], teacher: torch.Tensor) -> StudentClassifier:
        student = StudentClassifier((16,), 0.0, method=method, **quick)
        return student.fit(seen.x, seen.y, teacher=teacher, labelled=setting.train)

    first = 2 * torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(0))
    both = fitted(dict(type="selfdistill", steps=2, lam=0.4), first)
    teacher = first
    for _ in range(2):
        by_hand = fitted(dict(type="glnn", lam=0.4), teacher)
        teacher = torch.from_numpy(by_hand.predict_proba(seen.x)).log().float()
    np.testing.assert_allclose(both.predict_proba(seen.x), by_hand.predict_proba(seen.x), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (fitted(dict(type="selfdistill", steps=steps), first).history_ for steps in (1, 2))
    assert two.label_weights[0] == one.label_weight
    assert two.label_weights[1] == two.label_weight != one.label_weight  # of another teacher


def test_the_student_of_a_random_teacher_ends_in_a_probe_and_knows_no_other_teacher(
    setting: Setting, taught: Outcome
) -> None:
    x = setting.seen.x
    student = studied(setting, taught, "random_teacher", epochs=5).model
    features = student.network_.outputs(x)[0].detach().numpy()
    train = setting.train.numpy()
    probe = LogisticRegression(max_iter=2000).fit(features[train], setting.seen.y[setting.train])
    np.testing.assert_allclose(student.predict_proba(x), probe.predict_proba(features), atol=0.01)
    other = train_teacher(setting, dict(type="gcn", epochs=1))
    again = studied(setting, other, "random_teacher", epochs=5).model
    assert np.array_equal(student.predict_proba(x), again.predict_proba(x))


def test_at_the_random_teacher_there_is_nothing_to_learn_and_next_to_it_there_is(
    setting: Setting, taught: Outcome
) -> None:
    at, near, far = (studied(setting, taught, "random_teacher", near=near, epochs=5) for near in (0.0, 0.3, 1.0))
    assert at.model.history_.epochs == 0 < near.model.history_.epochs
    weights = [outcome.model.network_.layers[0].weight for outcome in (at, near, far)]
    assert 0 < (weights[1] - weights[0]).norm() < (weights[2] - weights[0]).norm()


def test_a_random_teacher_s_probe_works_for_two_classes_and_for_absent_ones(setting: Setting) -> None:
    seen = setting.seen
    teacher = torch.zeros(len(seen), 10)
    pair = setting.train[(seen.y[setting.train] == 3) | (seen.y[setting.train] == 5)]
    student = StudentClassifier((64,), method="random_teacher", random_state=0)
    student.fit(seen.x, seen.y, teacher=teacher, labelled=pair)
    test = setting.test[(setting.whole.y[setting.test] == 3) | (setting.whole.y[setting.test] == 5)]
    assert student.score(seen.x[test], setting.whole.y[test]) > 0.9
    assert set(student.predict(seen.x)) == {3, 5}


def test_born_again_from_the_control_itself(setting: Setting, taught: Outcome, control: Outcome) -> None:
    """Without labels the second generation can be nothing but the first one's image, and no graph had a say in it."""
    x = setting.seen.x
    again = studied(setting, taught, "tfkd_self", lam=0.0).model
    first = control.model.predict(x)
    assert (again.predict(x) == first).mean() > 0.95
    from_graph = studied(setting, taught, "glnn").model.predict(x)
    assert (again.predict(x) == first).mean() > (again.predict(x) == from_graph).mean()
    assert not np.array_equal(
        again.network_.layers[0].weight.detach(), control.model.network_.layers[0].weight.detach()
    )
    other = train_teacher(setting, dict(type="gcn", epochs=1))
    same = studied(setting, other, "tfkd_self", lam=0.0).model
    assert np.array_equal(same.predict_proba(x), again.predict_proba(x))


# --- heads ------------------------------------------------------------------------------------------------------------


def step_of(recipe: Any, setting: Setting, teacher: Tensor, model: MLP, **options: Any) -> tuple[nn.Module, Any]:
    """What a recipe hands to the training loop: the module and the loss of a step."""
    kept: list[Any] = []

    def no_training(module: nn.Module, loss: object, count: int) -> History:
        kept.extend([module, loss])
        return History()

    torch.manual_seed(1)
    recipe(model, lesson_of(setting, teacher, no_training), **options)
    return kept[0], kept[1]


def test_dual_head_bends_the_side_gradient_on_the_body_alone(setting: Setting) -> None:
    teacher = -20 * F.one_hot(setting.whole.y, 10).float()  # the contrary of the labels
    gradients = {}
    for align in (True, False):
        torch.manual_seed(0)
        model = MLP(64, (16,), 10).eval()
        module, loss = step_of(dual_head, setting, teacher, model, lam=0.5, align=align, dropout=0.0)
        value = loss(slice(None))
        value.backward()
        gradients[align] = [parameter.grad for parameter in module.parameters()]
        body = gradients[align][:2]
        hard = 0.5 * lesson_of(setting, teacher, train).hard_loss(model)
        main = torch.autograd.grad(hard, list(model.layers[0].parameters()))
        gradients[align, "main"] = sum((a * b).sum() for a, b in zip(body, main)) - sum(b.square().sum() for b in main)
        gradients[align, "value"] = value.item()
    assert gradients[True, "value"] == pytest.approx(gradients[False, "value"], rel=1e-6)
    assert gradients[False, "main"] < 0  # they do oppose each other here
    assert gradients[True, "main"] == pytest.approx(0, abs=1e-6)
    for aligned, plain in zip(gradients[True][2:], gradients[False][2:], strict=True):
        torch.testing.assert_close(aligned, plain)  # both heads


def test_a_second_head_leaves_no_trace(setting: Setting, taught: Outcome, control: Outcome) -> None:
    outcome = studied(setting, taught, "dual_head", LONGER)
    assert set(outcome.model.network_.state_dict()) == set(control.model.network_.state_dict())
    assert outcome.metrics["tran"] > 0.92


def test_dho_keeps_the_two_losses_off_the_other_s_head(setting: Setting, taught: Outcome) -> None:
    assert taught.cache is not None
    teacher = torch.from_numpy(taught.cache.logits)
    for lam, idle in ((0.0, "layer."), (0.999999, "second.")):
        model = WithOutput(64, (16,), 10).train()
        seen: list[Any] = []

        def one_step(module: nn.Module, loss: Any, count: int, seen: list[Any] = seen) -> History:
            value = loss(slice(None))
            assert value.isfinite()
            value.backward()
            seen.extend((name, parameter.grad) for name, parameter in module.named_parameters() if "layers.1" in name)
            return History()

        dho(model, lesson_of(setting, teacher, one_step), lam=lam)
        found = dict(seen)
        assert len(found) == 4  # weight and bias of two heads
        for name, gradient in found.items():
            assert (gradient is None or gradient.abs().max() < 1e-4) == (idle in name)


def test_dho_keeps_both_heads_and_mixes_what_they_predict(
    setting: Setting, taught: Outcome, control: Outcome, tmp_path: Path
) -> None:
    outcome = studied(setting, taught, "dho", LONGER, share=0.3, sharp=0.8)
    assert outcome.metrics["tran"] > train_student(setting, None, "supervised", LONGER).metrics["tran"]
    student, x = outcome.model, setting.whole.x
    with torch.no_grad():
        hidden = student.network_.outputs(x)[-2].double()
        output = copy.deepcopy(student.network_.layers[-1]).double()
        first, second = output.layer(hidden).softmax(1), (output.second(hidden) / 0.8).softmax(1)
    np.testing.assert_allclose(student.predict_proba(x), 0.3 * first + 0.7 * second, atol=1e-5)
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x), student.predict_proba(x))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_aligned_weights_bring_the_old_classes_back(setting: Setting) -> None:
    expert = train_teacher(setting, dict(**SAGE, known=[0, 1, 2, 3, 4]))
    plain = studied(setting, expert, "incremental", lam=0.9)
    aligned = studied(setting, expert, "weight_align", method=dict(type="incremental", lam=0.9))
    norms = aligned.model.network_.layers[-1].weight.norm(dim=1)
    assert norms[:5].mean().item() == pytest.approx(norms[5:].mean().item(), rel=1e-5)
    old = setting.test[setting.whole.y[setting.test] < 5]
    before, after = ((each.model.predict(setting.whole.x[old]) < 5).mean() for each in (plain, aligned))
    assert after > before + 0.02
    assert aligned.metrics["tran"] > plain.metrics["tran"]


def test_forgotten_labels_are_not_read(setting: Setting, taught: Outcome) -> None:
    """With no memory at all, the labels of the old classes may be anything among them."""
    seen = setting.seen
    mixed = torch.where((seen.y >= 0) & (seen.y < 5), 4 - seen.y, seen.y)
    assert taught.cache is not None
    students = []
    for y in (seen.y, mixed):
        student = StudentClassifier((16,), method=dict(type="incremental", memory=0), epochs=5, random_state=0)
        students.append(student.fit(seen.x, y, teacher=taught.cache, labelled=setting.train).predict_proba(seen.x))
    assert np.array_equal(*students)


# --- modules ----------------------------------------------------------------------------------------------------------


def test_layers_taught_one_by_one_are_a_head_start(setting: Setting, taught: Outcome) -> None:
    assert taught.cache is not None
    x, y, losses = setting.whole.x, setting.whole.y[setting.test], []
    teacher = torch.from_numpy(taught.cache.logits)
    for epochs in (0, 15):
        torch.manual_seed(0)
        model = MLP(64, (24, 24), 10)
        loop = functools.partial(train, schedule=Schedule(epochs=8))
        m2m(model, lesson_of(setting, teacher, loop), wide=64, narrow=24, epochs=epochs)
        losses.append(F.cross_entropy(model(x)[setting.test], y).item())
    assert losses[1] < losses[0]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_hidden_layers_are_asked_for_by_name(setting: Setting) -> None:
    teacher = torch.zeros(len(setting.seen), 10)
    for name in ("dual_head", "random_teacher"):
        student = StudentClassifier((), method=name)
        with pytest.raises(ValueError, match=f"{name}: the student needs a hidden layer"):
            student.fit(setting.seen.x, setting.seen.y, teacher=teacher, labelled=setting.train)


@pytest.mark.parametrize("name", ["dho", "dual_head", "m2m", "tfkd_self", "incremental"])
def test_a_weight_that_is_no_share_is_named(setting: Setting, taught: Outcome, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: lam .*1\.5"):
        studied(setting, taught, name, lam=1.5)
    assert name not in kdlosses.LOSSES


def test_what_a_method_inside_must_have_is_said_before_training(setting: Setting, taught: Outcome) -> None:
    for name in ("selfdistill", "diff_quant"):
        with pytest.raises(TypeError, match="has no option 'lam'"):
            studied(setting, taught, name, method="supervised")
    with pytest.raises(ValueError, match="of 10 classes 1 to 9 can be old, got 10"):
        studied(setting, taught, "weight_align", old=10)


@pytest.mark.parametrize("name", ["dho", "dual_head", "m2m", "quant_distill", "random_teacher", "tfkd_self"])
def test_sparse_features_make_the_same_student(setting: Setting, taught: Outcome, name: str) -> None:
    assert taught.cache is not None
    seen = setting.seen
    options = dict(epochs=3, wide=16) if name == "m2m" else {}
    student = StudentClassifier((16,), method=dict(type=name, **options), epochs=3, random_state=0, batch_size=600)
    found = [
        clone(student).fit(x, seen.y, teacher=taught.cache, labelled=setting.train).predict_proba(x)
        for x in (seen.x.numpy(), scipy.sparse.csr_matrix(seen.x.numpy()))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
