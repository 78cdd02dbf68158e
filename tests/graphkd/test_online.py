"""Teachers that change while their student learns: `online`, `mean_teacher`, and `voting` without another teacher."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from graphkd import StudentClassifier, train_student
from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.recipes import RECIPES, mean_teacher, online, voting
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Schedule, train

CONTRACT = [
    RecipeContract(
        "online",
        undrawn=dict(peer=dict(type="sage", dropout=0.0)),
        reads_labels="its teacher learns from them at the same time",
    ),
    RecipeContract(
        "mean_teacher",
        options=dict(taught=1.0),
        undrawn=dict(taught=1.0, hide=0.0),
        without_edges=dict(taught=1.0),
        short=dict(taught=1.0),
    ),
]


def lesson_of(setting: Setting, epochs: int = 5, **more: Any) -> Lesson:
    seen, generator, clock = setting.seen, torch.Generator().manual_seed(0), Clock()
    labels = torch.full((len(seen),), -1).index_copy(0, setting.train, seen.y[setting.train])
    loop = functools.partial(train, schedule=Schedule(epochs=epochs), generator=generator, clock=clock)
    return Lesson(seen.x, labels, loop, generator, edge_index=seen.edge_index, clock=clock, **more)


def network() -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP(64, (16,), 10)


def watched(lesson: Lesson, act: Callable[[nn.Module, Callable[..., Tensor]], None]) -> Lesson:
    """A lesson whose training hands what is trained, and its loss, to a function."""

    def loop(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        act(trained, loss)
        return History()

    return replace(lesson, train=loop)


def log_softmax(z: Tensor, tau: float = 1.0) -> np.ndarray:
    z = z.detach().double().numpy() / tau
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.exp(p) * (p - q)).sum(1)


# online


@pytest.mark.parametrize("nodes", [slice(None), torch.arange(0, 1700, 9)], ids=["all", "batch"])
def test_online_is_its_formula(setting: Setting, nodes: Tensor | slice) -> None:
    model, seen, kept = network(), setting.seen, []
    lesson = lesson_of(setting, batch_size=None if isinstance(nodes, slice) else 200)

    def act(trained: nn.Module, loss: Callable[..., Tensor]) -> None:
        trained.eval()
        kept.append((loss(nodes), trained[1]))  # type: ignore[index]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        online(model, watched(lesson, act), lam=0.3, heard=0.7, tau=4.0)
    ((value, teacher),) = kept
    mine, its = model(seen.x), teacher(seen.x, seen.edge_index)
    ce = [-log_softmax(z)[setting.train, seen.y[setting.train]].mean() for z in (mine, its)]
    q, p = log_softmax(mine[nodes], 4.0), log_softmax(its[nodes], 4.0)
    h_p, h_q = (-(np.exp(each) * each).sum(1) for each in (p, q))
    d = h_p / (h_p + h_q)
    soft, back = 16 * (d * kl(p, q) + (1 - d) * kl(q, p)).mean(), 16 * kl(q, p).mean()
    assert value.item() == pytest.approx(0.3 * ce[0] + 0.7 * soft + ce[1] + 0.7 * back, rel=1e-4)


@pytest.mark.parametrize("batch_size", [None, 300])
def test_both_learn_and_neither_is_pulled_by_the_loss_of_the_other(setting: Setting, batch_size: int | None) -> None:
    grads: dict[str, list[Tensor]] = {}
    nodes = slice(None) if batch_size is None else torch.arange(300)
    for name, options in {
        "all": {},
        "other loss": dict(loss="mse"),
        "unheard": dict(heard=0.0),
    }.items():
        model = network()

        def act(trained: nn.Module, loss: Callable[..., Tensor], name: str = name) -> None:
            trained.eval()
            loss(nodes).backward()
            student, teacher, *_ = trained  # type: ignore[misc]
            grads[name] = [next(each.parameters()).grad.clone() for each in (student, teacher)]

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            online(model, watched(lesson_of(setting, batch_size=batch_size), act), **options)
    student, teacher = grads["all"]
    assert student.abs().max() > 0
    assert torch.equal(grads["other loss"][1], teacher)  # the student's loss is no concern of the teacher
    assert not torch.allclose(grads["other loss"][0], student)
    assert torch.equal(grads["unheard"][0], student)
    assert not torch.allclose(grads["unheard"][1], teacher)


class Own(nn.Module):
    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.conv = SAGEConv(in_features, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, None]:
        return self.conv(x, edge_index), None


@pytest.mark.parametrize("peer", ["sage", Own])
def test_an_online_teacher_is_better_than_none(setting: Setting, peer: Any) -> None:
    quick = StudentClassifier((32,), 0.3, epochs=80)
    seen = setting.seen
    nobody = torch.zeros(len(seen), 10)  # a teacher that was trained beforehand is not read
    control = train_student(setting, None, "supervised", quick).metrics["tran"]
    fitted = quick.set_params(method=dict(type="online", peer=peer, heard=0.1), random_state=0).fit(
        *(seen.x, seen.y),
        teacher=nobody,
        edge_index=seen.edge_index,
        labelled=setting.train,
        validation=(seen.x[setting.val], seen.y[setting.val]),
    )
    assert fitted.score(seen.x[setting.test], setting.whole.y[setting.test]) > control + 0.005


# mean teacher


def test_the_mean_teacher_is_the_average_of_its_students(setting: Setting) -> None:
    """Loss and average by hand, over three steps of plain gradient descent."""
    model, values, x = network(), [], setting.seen.x

    def act(trained: nn.Module, loss: Callable[..., Tensor]) -> None:
        trained.train()
        for _ in range(3):
            value = loss(slice(None))
            by_hand = averages[-1](x)
            p, q = log_softmax(by_hand), log_softmax(model(x))
            one = -0.5 * (np.exp(p) * q).sum(1) - 0.5 * (np.exp(q) * p).sum(1)
            ce = -q[setting.train, setting.seen.y[setting.train]].mean()
            values.append((value.item(), 0.4 * ce + 0.6 * one.mean()))
            trained.zero_grad()
            value.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= parameter.grad  # type: ignore[operator]
                moved = copy.deepcopy(averages[-1])
                for old, new in zip(moved.parameters(), model.parameters()):
                    old.copy_(0.9 * old + 0.1 * new)
            averages.append(moved)

    averages = [copy.deepcopy(model).eval()]
    mean_teacher(model, watched(lesson_of(setting), act), lam=0.4, momentum=0.9, hide=0.0)
    found, expected = zip(*values)
    assert found == pytest.approx(expected, rel=1e-4)
    assert abs(found[2] - found[0]) > 1e-3


def test_the_second_view_hides_features(setting: Setting) -> None:
    shown: list[Tensor] = []

    class Watched(MLP):
        def forward(self, x: Tensor) -> Tensor:
            shown.append(x.detach())
            return super().forward(x)

    mean_teacher(Watched(64, (16,), 10), watched(lesson_of(setting), lambda _, loss: loss(slice(None))), hide=0.3)
    x = setting.seen.x
    hidden = next(each for each in shown if each.shape == x.shape and not torch.equal(each, x))
    assert ((hidden == x) | (hidden == 0)).all()
    assert (hidden[x > 0] == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (mean_teacher, dict(lam=0.0), "mean_teacher: with lam=0 and taught=0 the student hears itself alone"),
        (mean_teacher, dict(momentum=1.0), "momentum and hide are from 0 to less than 1"),
        (mean_teacher, dict(lam=2.0), "lam is the weight"),
        (voting, dict(lam=0.0, taught=0.0), "voting: with taught=0 and lam=0 the student hears itself alone"),
        (online, dict(heard=-1.0), "heard is the weight of the student for its teacher"),
        (online, dict(peer="sagee"), "no peer is called 'sagee'; did you mean 'sage'"),
    ],
)
def test_what_is_out_of_range_is_named(
    setting: Setting, recipe: Callable[..., History], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        recipe(network(), lesson_of(setting), **options)


# voting


def test_the_earlier_steps_of_one_network_vote_without_another_teacher(setting: Setting) -> None:
    """Values by hand: the mean prediction of the last two epochs, before a step of each."""
    model, x, values = network(), setting.seen.x, []
    lesson = lesson_of(setting)

    def act(trained: nn.Module, loss: Callable[..., Tensor]) -> None:
        past: list[np.ndarray] = []
        trained.eval()
        for epoch in range(4):
            lesson.clock.epoch = epoch
            if epoch:
                past = [*past, np.exp(log_softmax(model(x)))][-2:]
            value = loss(slice(None))
            q = log_softmax(model(x))
            ce = -q[setting.train, setting.seen.y[setting.train]].mean()
            vote = kl(np.log(np.mean(past, 0)), q).mean() if past else 0.0
            values.append((value.item(), 0.25 * ce + 0.75 * 2 * vote))
            trained.zero_grad()
            value.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 3 * parameter.grad  # type: ignore[operator]

    voting(model, watched(lesson, act), lam=0.25, k=2, votes=2.0, taught=0.0)
    found, expected = zip(*values)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[3] - 0.25 * expected[3] > 0


@pytest.mark.parametrize("name", ["mean_teacher", "voting"])
def test_no_other_teacher_is_read(setting: Setting, name: str) -> None:
    found = []
    for teacher in (None, torch.full((len(setting.seen), 10), torch.nan)):
        model = network()
        RECIPES[name](model, lesson_of(setting, teacher=teacher), lam=0.5, taught=0.0)
        found.append(model(setting.seen.x).detach())
    assert found[0].isfinite().all()
    assert torch.equal(*found)
