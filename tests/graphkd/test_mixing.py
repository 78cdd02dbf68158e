"""Recipes that change inputs or learn a rule beside the student: `mixup`, `hard`, `kd3`, `talking`, `tgeo`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from contract.entry import RecipeContract
from torch import Tensor, nn

from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.networks.with_output import WithOutput
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import RECIPES, hard, kd3, mixup, talking, terms, tgeo
from graphkd.students.classifier import StudentClassifier
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Schedule, train
from kdlosses import Talking
from kdlosses.outputs import SharedClassifier
from kdlosses.policy.confident import confidence
from kdlosses.rules import FusionRatio
from kdlosses.rules import mixup as drawn

CONTRACT = [
    RecipeContract(
        "hard",
        options=dict(steps=1, ask=False),
        undrawn=dict(steps=1, ask=False),
        short=dict(ask=False),
        without_edges=dict(ask=False),
    ),
    RecipeContract("mixup", options=dict(share=0.0), undrawn=dict(share=0.0)),
    RecipeContract(
        "kd3",
        options=dict(ask=False),
        undrawn=dict(contrast=0.0, ask=False),
        short=dict(ask=False),
        without_edges=dict(ask=False),
        learns_less="it leaves out what such a noisy teacher is not sure of",
    ),
    RecipeContract(
        "talking",
        options=dict(ask=False),
        undrawn=dict(ask=False),
        short=dict(ask=False),
        without_edges=dict(ask=False),
    ),
    RecipeContract("tgeo", undrawn=dict(lam=0.5), short=dict(lam=0.5)),
]

QUICK = StudentClassifier(hidden=(32,), dropout=0.3, epochs=80)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=100, hidden=24))


@pytest.fixture
def lesson(setting: Setting, taught: Outcome) -> Lesson:
    assert taught.cache is not None
    seen, generator, clock = setting.seen, torch.Generator().manual_seed(0), Clock()
    labels = torch.full((len(seen),), -1).index_copy(0, setting.train, seen.y[setting.train])
    loop = functools.partial(train, schedule=Schedule(epochs=5), generator=generator, clock=clock)
    cache = taught.cache
    return Lesson(
        seen.x, labels, loop, generator, cache.logits, seen.edge_index, None, cache.hidden, clock, live=taught.live
    )


def network() -> WithOutput:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WithOutput(64, (16,), 10)


def first_step(
    recipe: Callable[..., History], lesson: Lesson, model: MLP, nodes: Tensor | slice = slice(None), **options: Any
) -> tuple[Tensor, nn.Module, Callable[[Tensor | slice], Tensor]]:
    """The loss of a first step, what is trained, and the loss itself."""
    kept: list[Any] = []

    def one_step(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        kept.extend([loss(nodes), trained, loss])
        return History()

    recipe(model, replace(lesson, train=one_step), **options)
    return kept[0], kept[1], kept[2]


def trained_longer(lesson: Lesson) -> Lesson:
    return replace(lesson, train=functools.partial(train, schedule=Schedule(epochs=60)))


def logits_of(lesson: Lesson) -> Tensor:
    return torch.from_numpy(np.array(lesson.teacher))


# mixup


def test_mixup_is_its_formula(lesson: Lesson) -> None:
    model, n = network(), len(lesson)
    value, *_ = first_step(mixup, lesson, model, lam=0.3, share=0.6, alpha=0.5, loss="kl")
    again, x = torch.Generator().manual_seed(0), lesson.x
    told = (lesson.labels >= 0).nonzero().flatten()
    told = told[torch.randperm(len(told), generator=again)]
    parts = []
    for count, ids, truth in (
        (len(told), told, F.one_hot(lesson.labels[told], 10).double()),
        (n, torch.arange(n), logits_of(lesson).double().softmax(1)),
    ):
        partner, keep = (a.numpy() for a in drawn(count, again, 0.5, 0.6))
        k = keep[:, None].astype(float)
        features, target = x[ids].numpy().astype(float), truth.numpy()
        mixed = torch.from_numpy(k * features + (1 - k) * features[partner]).float()
        target = k * target + (1 - k) * target[partner]
        log_q = model(mixed).log_softmax(1).detach().double().numpy()
        entropy = np.where(target > 0, target * np.log(np.where(target > 0, target, 1)), 0).sum(1)
        parts.append(((entropy if count == n else 0) - (target * log_q).sum(1)).mean())
    assert value.item() == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], rel=1e-4)


def test_nothing_mixed_is_plain_distillation_to_the_bit(lesson: Lesson) -> None:
    one, two = network(), network()
    mixup(one, replace(lesson, generator=torch.Generator()), lam=0.4, share=0.0)
    terms(two, replace(lesson, generator=torch.Generator()), lam=0.4, distills=[dict(loss="std_kd")])
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


@pytest.mark.parametrize("name", ["mixup", "hard", "kd3", "talking", "tgeo", "rad", "ddk", "pruned"])
def test_labels_alone_need_no_teacher(setting: Setting, taught: Outcome, lesson: Lesson, name: str) -> None:
    """The control of each method has the same data and augmentation, and no teacher."""
    found = []
    for teacher in (lesson.teacher, -logits_of(lesson).numpy()):
        model = network()
        wraps = name in ("rad", "ddk", "pruned")
        options: dict[str, Any] = dict(method=dict(type="glnn", lam=1.0)) if wraps else dict(lam=1.0)
        RECIPES[name](model, replace(lesson, teacher=teacher, generator=torch.Generator()), **options)
        found.append(model(setting.seen.x).detach())
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mixup", dict(loss=dict(type="until", loss="kl"))),
        ("hard", dict(loss="dkd")),
        ("kd3", dict(loss="dkd")),
        ("tgeo", dict(loss=dict(type="until", loss="dkd", stop=0.9))),
        ("hard", dict(loss=dict(type="ffg2m_low"))),
        ("mixup", dict(loss=dict(type="taid"))),
    ],
)
def test_any_loss_stands_inside(lesson: Lesson, name: str, options: dict[str, Any]) -> None:
    """With labels, edges and time where the loss asks for them."""
    model = network()
    before = model(lesson.x).detach().clone()
    RECIPES[name](model, lesson, **options)
    after = model(lesson.x).detach()
    assert after.isfinite().all()
    assert (after - before).abs().max() > 0.01


# hard


def test_the_mask_climbs_and_the_student_comes_after(lesson: Lesson) -> None:
    model = network()
    terms(model, trained_longer(lesson))
    clean, *_ = first_step(hard, lesson, model, ask=False, bound=0.0)
    masked, _, loss = first_step(hard, lesson, model, ask=False, bound=0.5, up=1e6, steps=20)
    assert masked > 1.2 * clean
    assert loss(slice(None)) > masked  # the student did not move, the mask goes on
    climbed = [first_step(hard, lesson, model, ask=False, up=up, lr=0.003, steps=50)[0].item() for up in (1.05, 1.2)]
    assert 1.05 < climbed[0] / clean.item() < 1.15  # no further than it has to
    assert 1.2 < climbed[1] / clean.item() < 1.3


def test_after_it_has_climbed_the_mask_rests_until_the_student_has_caught_up(lesson: Lesson) -> None:
    ratio = {}
    for low in (1e-3, 1.5):
        model = network()
        terms(model, trained_longer(lesson))
        value, _, loss = first_step(hard, lesson, model, ask=False, up=1.5, low=low, bound=0.5, steps=100)
        assert torch.equal(loss(slice(None)), value)  # it rests
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(40):
            optimiser.zero_grad()
            loss(slice(None)).backward()
            optimiser.step()
        ratio[low] = (loss(slice(None)) / first_step(hard, lesson, model, ask=False, bound=0.0)[0]).item()
    assert ratio[1e-3] < 1.3
    assert ratio[1.5] > 1.45


def test_a_mask_without_room_is_plain_distillation(lesson: Lesson) -> None:
    one, two = network(), network()
    hard(one, lesson, lam=0.2, bound=0.0)
    terms(two, lesson, lam=0.2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


# kd3


def test_kd3_selects_and_weighs_logits_and_features(lesson: Lesson) -> None:
    model = network()
    value, trained, _ = first_step(kd3, lesson, model, kappa=0.45, feature=2.0, contrast=0.0, ask=False)
    adapter = next(module for name, module in trained.named_modules() if name.endswith("adapter"))
    hidden, logits = (out.detach().double() for out in model.outputs(lesson.x))
    q, p = logits.softmax(1), logits_of(lesson).double().softmax(1)
    w = (0.5 * (p + q)).max(1).values
    w = (w * (w >= 0.45)).numpy()
    assert 0 < (w > 0).mean() < 1
    divergence = (p * (p / q).log()).sum(1).numpy()
    error = (hidden @ adapter.weight.double().t() + adapter.bias.double()).detach() - torch.from_numpy(
        np.array(lesson.hidden[-1])
    )
    expected = np.average(divergence, weights=w) + 2 * np.average(error.square().mean(1).numpy(), weights=w)
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_kd3_contrast_learns_to_recognise_shifted_features(lesson: Lesson) -> None:
    model = network()
    before, _, loss = first_step(kd3, lesson, model, kappa=1.0, feature=0.0, contrast=1.0, points=128)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    found = []
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(slice(None))
        value.backward()
        optimiser.step()
        found.append(value.item())
    assert np.mean(found[-10:]) < 0.8 * np.mean(found[:10])
    assert before < np.log(128)


def test_the_teachers_classifier_is_the_students_and_its_features_are_learned(lesson: Lesson) -> None:
    """What it is compared with makes the teacher's logits, whatever the neighbours; no step moves the classifier."""
    model, teacher = network(), lesson.live.networks[0]  # type: ignore[union-attr]
    value, *_ = first_step(kd3, lesson, model, kappa=0.0, feature=1e6, contrast=0.0)
    output = model.layers[-1]
    assert isinstance(output, SharedClassifier)
    conv = teacher.layers[-1]
    torch.testing.assert_close(output.classifier.weight, conv.linear.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.classifier.bias, conv.linear.bias, atol=1e-5, rtol=1e-4)
    h, target = torch.from_numpy(np.array(lesson.hidden[-1])).double(), logits_of(lesson).double()
    w, b = (each.detach().double() for each in (output.classifier.weight, output.classifier.bias))
    change = np.linalg.lstsq(w.numpy(), (target - h @ w.t() - b).numpy().T, rcond=None)[0].T  # the least there is
    wanted = h + torch.from_numpy(change)
    torch.testing.assert_close(wanted @ w.t() + b, target, atol=1e-3, rtol=1e-3)
    *_, hidden, logits = model.outputs(lesson.x)
    sure = confidence(logits, target.float()).double()
    error = ((output.layer(hidden).double() - wanted).square().mean(1) * sure).sum() / sure.sum()
    assert value.item() == pytest.approx(1e6 * error.item(), rel=1e-3)
    before = w.clone()
    taught = network()
    kd3(taught, trained_longer(lesson))
    last = taught.layers[-1]
    assert torch.equal(last.classifier.weight.double(), before)
    assert (last.layer.weight - output.layer.weight).abs().max() > 0.01
    again = WithOutput(64, (16,), 10)
    again.load_state_dict(taught.state_dict())
    assert torch.equal(again(lesson.x), taught(lesson.x))


def test_a_teacher_without_a_linear_classifier_is_named(lesson: Lesson) -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.head(x).tanh()

    live = replace(lesson.live, networks=[Bent()])  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"kd3: what the teacher Bent makes .* is no linear map; with ask=False the"):
        kd3(network(), replace(lesson, live=live))


# talking


def test_talking_teaches_student_and_coders(lesson: Lesson) -> None:
    model = network()
    teacher = lesson.live.networks[0]  # type: ignore[union-attr]
    teacher.zero_grad()  # of its training
    value, trained, _ = first_step(talking, lesson, model)
    value.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained.parameters())
    taught = {id(parameter) for parameter in trained.parameters()}
    assert all(id(each) not in taught and each.grad is None for each in teacher.parameters())
    plain, *_ = first_step(talking, lesson, model, interaction=0.0, consistency=0.0)
    q, p = model(lesson.x).double().log_softmax(1), logits_of(lesson).double().softmax(1)
    assert plain.item() == pytest.approx((p * (p.log() - q)).sum(1).mean().item(), rel=1e-5)


def test_a_message_of_the_student_goes_through_the_teachers_own_layers(lesson: Lesson) -> None:
    """What the student says reaches the logits of a neighbour, as no map of a node by itself would have it."""
    model = network()
    options = dict(interaction=1.0, consistency=0.0)
    value, trained, _ = first_step(talking, lesson, model, **options)
    (talk,) = (module for module in trained.modules() if isinstance(module, Talking))
    teacher = lesson.live.networks[0]  # type: ignore[union-attr]
    *_, mine, logits = model.outputs(lesson.x)
    state, target = torch.from_numpy(np.array(lesson.hidden[-1])), logits_of(lesson)
    answer = teacher.layers[-1](talk.to_teacher(mine), lesson.edges())
    expected = (answer - target).square().mean()
    for said in (logits, model.layers[-1](talk.to_student(state))):
        expected = expected + F.kl_div(said.log_softmax(1), target.softmax(1), reduction="batchmean")
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    by_rows, *_ = first_step(talking, lesson, model, ask=False, **options)
    assert abs(by_rows - value) > 0.01 * value


def test_what_stands_for_the_upper_layers_of_rows_says_nearly_what_the_teacher_says(lesson: Lesson) -> None:
    from graphkd.recipes.talking import _readout

    hidden, logits = torch.from_numpy(np.array(lesson.hidden[-1])), logits_of(lesson)
    upper = _readout(hidden, logits)
    assert (upper(hidden, slice(None)).argmax(1) == logits.argmax(1)).float().mean() > 0.95
    exact = _readout(hidden, hidden @ torch.eye(24, 5) + 3)
    torch.testing.assert_close(exact(hidden, slice(None)), hidden[:, :5] + 3, atol=0.1, rtol=0.05)


# tgeo


def test_a_fixed_ratio_is_plain_distillation_to_the_bit(lesson: Lesson) -> None:
    one, two = network(), network()
    tgeo(one, lesson, lam=0.3)
    terms(two, lesson, lam=0.3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


def ratio_of(loss: Callable[[Tensor | slice], Tensor]) -> tuple[FusionRatio, Tensor]:
    """The ratio network and the held-out nodes inside a step of `tgeo`."""
    names = dict(zip(loss.__code__.co_freevars, (cell.cell_contents for cell in loss.__closure__ or ())))
    tune = names["tune"]
    inside = dict(zip(tune.__code__.co_freevars, (cell.cell_contents for cell in tune.__closure__)))
    return names["ratio"], inside["outer"]


def test_the_ratio_moves_towards_whoever_is_right(lesson: Lesson) -> None:
    """A teacher that is always wrong is followed less, a flawless one beside wrong labels more."""
    truth = torch.from_numpy(np.array(lesson.teacher)).argmax(1).where(lesson.labels < 0, lesson.labels)
    right = 8 * F.one_hot(truth, 10).float()
    found = {}
    for name, teacher in (("right", right), ("wrong", right.roll(1, 1))):
        model = network()
        view = replace(lesson, teacher=teacher, generator=torch.Generator().manual_seed(0))
        _, _, loss = first_step(tgeo, view, model, every=1)
        ratio, outer = ratio_of(loss)
        seen: list[float] = []
        ratio.register_forward_hook(lambda module, given, out, seen=seen: seen.append(out.mean().item()))
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for epoch in range(25):
            lesson.clock.epoch = epoch
            optimiser.zero_grad()
            loss(slice(None)).backward()
            optimiser.step()
        found[name] = seen[-1] - seen[0]
        assert len(outer) == 40  # a fifth of 200
    assert found["wrong"] < found["right"]
    assert found["wrong"] < -0.1


def test_the_student_never_learns_a_held_out_label(lesson: Lesson) -> None:
    model, labels = network(), lesson.labels
    value, _, loss = first_step(tgeo, lesson, model, every=10)
    lesson.clock.epoch = 1  # no step of the ratio network
    value = loss(slice(None))
    _, outer = ratio_of(loss)
    told = labels.clone()
    labels[outer] = (labels[outer] + 1) % 10
    torch.testing.assert_close(loss(slice(None)), value)
    labels.copy_(torch.where(told < 0, told, (told + 1) % 10))
    assert abs(loss(slice(None)) - value) > 1e-3  # one that it learns from is noticed


# all of them


@pytest.mark.parametrize("name", ["mixup", "hard", "kd3", "talking", "tgeo", "rad", "ddk", "pruned"])
def test_sparse_features_teach_the_same(lesson: Lesson, name: str) -> None:
    found = []
    for x in (lesson.x, scipy.sparse.csr_matrix(lesson.x)):
        model = network()
        view = replace(lesson, x=x, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            RECIPES[name](model, view)
        found.append(model(lesson.x).detach())
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["mixup", "hard", "kd3", "talking", "tgeo"])
def test_it_distills_better_than_labels_alone(setting: Setting, taught: Outcome, name: str) -> None:
    control = train_student(setting, None, "supervised", QUICK).metrics["tran"]
    options = dict(loss="kl") if name == "mixup" else dict(steps=1) if name == "hard" else {}
    found = train_student(setting, taught, dict(type=name, **options), QUICK)
    assert found.metrics["tran"] > control + 0.005


@pytest.mark.parametrize(
    ("recipe", "option", "message"),
    [
        (mixup, dict(lam=1.2), "lam is the weight"),
        (mixup, dict(loss="dkd"), "'dkd' needs labels, which a mixture"),
        (tgeo, dict(loss=lambda student, teacher: (student - teacher).mean()), "has no argument weight"),
        (hard, dict(lam=-1.0), "lam is the weight"),
        (hard, dict(up=0.5), "low=1.0 and up=0.5"),
        (hard, dict(bound=1.0), "bound must lie in"),
        (kd3, dict(lam=2.0), "lam is the weight"),
        (kd3, dict(kappa=2.0), "kappa must be a probability"),
        (talking, dict(lam=2.0), "lam is the weight"),
        (tgeo, dict(held=1.0), "held is a share"),
        (tgeo, dict(held=0.01), "leaves none to hold out"),
        (tgeo, dict(lam=2.0), "lam is the weight"),
    ],
)
def test_wrong_options_are_named(
    lesson: Lesson, recipe: Callable[..., History], option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(network(), lesson, **option)


@pytest.mark.parametrize("recipe", [kd3, talking])
def test_a_missing_hidden_layer_is_named(lesson: Lesson, recipe: Callable[..., History]) -> None:
    with pytest.raises(ValueError, match="hidden layer of the student"):
        recipe(network(), replace(lesson, hidden=()), ask=False)
    with pytest.raises(ValueError, match="hidden layer of the student"):
        recipe(MLP(64, (), 10), lesson)
