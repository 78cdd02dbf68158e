"""Recipes that choose the nodes for another one: `pruned`, `rad`, `ddk`. What they leave out must not be seen."""

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

from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.recipes import ddk, glnn, progressive, pruned, rad
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Schedule, train

CONTRACT = [
    RecipeContract("pruned", options=dict(keep=1.0), undrawn=dict(keep=1.0)),
    RecipeContract("rad", undrawn=dict(budget=1.0), learns_less="a fifth of the teacher's answers"),
    RecipeContract("progressive", options=dict(parts=[(1.0, "all")]), undrawn=dict(parts=[(0.5, "all"), (1.0, [1])])),
    RecipeContract("ddk", always_draws="the nodes of every step are a sample"),
]


def lesson_of(setting: Setting, batch_size: int | None = None, epochs: int = 4) -> Lesson:
    """A lesson whose teacher is right, more or less, and whose hidden layer numbers the nodes."""
    seen, generator, clock = setting.seen, torch.Generator().manual_seed(0), Clock()
    labels = torch.full((len(seen),), -1).index_copy(0, setting.train, seen.y[setting.train])
    teacher = torch.randn(len(seen), 10, generator=generator) + 3 * nn.functional.one_hot(setting.whole.y, 10)
    schedule = Schedule(epochs=epochs, batch_size=batch_size)
    loop = functools.partial(train, schedule=schedule, generator=generator, clock=clock)
    numbers = torch.arange(len(seen)).float().unsqueeze(1)
    return Lesson(seen.x, labels, loop, generator, teacher, seen.edge_index, batch_size, [numbers], clock)


def watched(steps: list[Tensor], lessons: list[Lesson]) -> Callable[..., History]:
    """`glnn`, and what it was given."""

    def method(model: nn.Module, lesson: Lesson) -> History:
        lessons.append(lesson)

        def loop(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
            def step(nodes: Tensor | slice) -> Tensor:
                steps.append(torch.arange(count)[nodes])
                return loss(nodes)

            return lesson.train(model, step, count)

        return glnn(model, replace(lesson, train=loop))

    return method


def network() -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP(64, (16,), 10)


@pytest.mark.parametrize("stratify", [True, False])
def test_a_pruned_lesson_is_a_part_of_the_whole(setting: Setting, stratify: bool) -> None:
    whole, lessons = lesson_of(setting), []
    pruned(network(), whole, keep=0.3, stratify=stratify, method=watched([], lessons))
    part = lessons[0]
    kept = part.hidden[0].flatten().long()
    assert len(part) == pytest.approx(0.3 * len(whole), abs=10)
    for mine, theirs in ((part.x, whole.x), (part.labels, whole.labels), (part.teacher, whole.teacher)):
        assert torch.equal(mine, theirs[kept])
    told = torch.bincount(part.labels[part.labels >= 0], minlength=10)
    assert told.sum() == 60
    assert (told == 6).all() == stratify  # of twenty each
    source, target = setting.seen.edge_index
    inside = torch.isin(source, kept) & torch.isin(target, kept)
    assert torch.equal(kept[part.edges()], setting.seen.edge_index[:, inside])


def test_pruning_leaves_the_number_of_updates(setting: Setting) -> None:
    steps: list[Tensor] = []
    lesson = lesson_of(setting, batch_size=300, epochs=2)
    pruned(network(), lesson, keep=0.3, method=lambda model, part: glnn(model, part))
    pruned(network(), lesson_of(setting, 300, 2), keep=0.3, method=watched(steps, []))
    assert lesson.clock.progress == pytest.approx(11 / 12)  # 1,797 nodes in six steps, twice
    assert len(steps) == 12


def test_where_little_is_kept_the_teacher_is_worth_more(setting: Setting) -> None:
    seen = setting.seen
    teacher = torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))
    teacher += 3 * nn.functional.one_hot(setting.whole.y, 10)
    gain = {}
    for keep in (0.1, 1.0):
        scores = []
        for lam in (0.5, 1.0):
            method = dict(type="pruned", keep=keep, method=dict(type="glnn", lam=lam))
            student = StudentClassifier(hidden=(32,), epochs=60, random_state=0, method=method)
            student.fit(seen.x, seen.y, teacher=teacher, edge_index=seen.edge_index, labelled=setting.train)
            scores.append(student.score(setting.whole.x[setting.test], setting.whole.y[setting.test]))
        gain[keep] = scores[0] - scores[1]
    assert gain[0.1] > gain[1.0] > 0


def test_nothing_pruned_is_the_method_itself_to_the_bit(setting: Setting) -> None:
    one, two = network(), network()
    pruned(one, lesson_of(setting, 300), keep=1.0, method=dict(type="glnn", lam=0.3))
    glnn(two, lesson_of(setting, 300), lam=0.3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


@pytest.mark.parametrize("batch_size", [None, 300])
@pytest.mark.parametrize("select", ["rad", "random"])
def test_questions_stay_in_the_budget_round_by_round(setting: Setting, batch_size: int | None, select: Any) -> None:
    lessons: list[Lesson] = []
    known: list[Tensor] = []

    def method(model: nn.Module, lesson: Lesson) -> History:
        lessons.append(lesson)

        def loop(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
            def watching(nodes: Tensor | slice) -> Tensor:
                assert lesson.teacher is not None
                known.append(lesson.teacher[:, 0].isfinite().nonzero().flatten())
                answers = lesson.teacher[nodes]
                assert answers.isfinite().all()  # no node is taught that was not asked about
                return loss(nodes)

            return lesson.train(model, watching, count)

        return glnn(model, replace(lesson, train=loop))

    whole = lesson_of(setting, batch_size, epochs=8)
    rad(network(), whole, budget=0.2, rounds=4, every=2, select=select, method=method)
    per_epoch = [len(asked) for asked in known][:: len(known) // 8]
    assert per_epoch == [90, 90, 180, 180, 270, 270, 359, 359]
    answers = lessons[0].teacher
    assert answers is not None
    assert torch.equal(answers[known[-1]], whole.teacher[known[-1]])
    assert lessons[0].hidden == ()


def test_questions_are_about_what_the_student_doubts(setting: Setting) -> None:
    trained = network()
    glnn(trained, lesson_of(setting, epochs=60), lam=1.0)
    with torch.no_grad():
        best = trained(setting.seen.x).softmax(1).topk(2).values
    doubt = 1 - (best[:, 0] - best[:, 1])
    asked_about = {}
    for select in ("rad", "random"):
        lessons: list[Lesson] = []
        options: dict[str, Any] = dict(budget=0.1, rounds=1, select=select, method=watched([], lessons))
        rad(copy.deepcopy(trained), lesson_of(setting, epochs=1), **options)
        assert lessons[0].teacher is not None
        asked = rows(lessons[0].teacher)[:, 0].isfinite()
        assert asked.sum() == 180
        asked_about[select] = doubt[asked].mean()
    assert asked_about["rad"] > 2 * asked_about["random"]


def test_a_method_that_reads_every_answer_is_stopped(setting: Setting) -> None:
    with pytest.raises(FloatingPointError, match="nan"):
        rad(network(), lesson_of(setting), method="ffg2m")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (dict(budget=0.0), "budget in"),
        (dict(wrong=1.0), "wrong in"),
        (dict(rounds=0), "count from 1"),
        (dict(select="best"), "'rad' or 'random'"),
    ],
)
def test_options_of_rad_out_of_range_are_named(setting: Setting, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rad(network(), lesson_of(setting), **option)


@pytest.mark.parametrize("domains", ["class", "degree"])
def test_domains_are_drawn_by_their_gap(setting: Setting, domains: Any) -> None:
    """The student agrees with its teacher but in one domain, where the teacher is surer."""
    model, steps = network(), []
    with torch.no_grad():
        agreed = model(setting.seen.x)
    degree = torch.bincount(setting.seen.edge_index[1])
    named = agreed.argmax(1)
    second = torch.bincount(named).argsort()[-2]
    apart = named == second if domains == "class" else degree > degree.sort().values[3 * len(degree) // 4]
    teacher = torch.where(apart.unsqueeze(1), 5 * agreed, agreed)
    lesson = replace(lesson_of(setting, epochs=1), teacher=teacher)
    ddk(model, lesson, domains=domains, smoothing=0.5, floor=0.2, method=watched(steps, []))
    count = len(named.unique()) if domains == "class" else 4
    expected = 0.5 / count + 0.5 * (0.8 + 0.2 / count)
    assert len(steps[0]) == len(lesson)
    assert apart[steps[0]].float().mean().item() == pytest.approx(expected, abs=0.04)
    assert expected > apart.float().mean() + 0.1  # more than there are


def test_sampling_domains_learns_as_well(setting: Setting) -> None:
    seen = setting.seen
    teacher = torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))
    teacher += 2 * nn.functional.one_hot(setting.whole.y, 10)
    scores = []
    for method in ("glnn", "ddk", dict(type="ddk", method="ffg2m"), dict(type="rad", budget=0.3), "pruned"):
        student = StudentClassifier(hidden=(32,), epochs=60, random_state=0, method=method)
        student.fit(seen.x, seen.y, teacher=teacher, edge_index=seen.edge_index, labelled=setting.train)
        scores.append(student.score(setting.whole.x[setting.test], setting.whole.y[setting.test]))
    assert np.min(scores) > 0.9


def test_a_share_that_keeps_nothing_is_named(setting: Setting) -> None:
    with pytest.raises(ValueError, match="keep is a share"):
        pruned(network(), lesson_of(setting), keep=0.0)


def test_a_kind_of_domain_that_is_none_is_named(setting: Setting) -> None:
    with pytest.raises(ValueError, match="'class' or 'degree'"):
        ddk(network(), lesson_of(setting), domains="size")


@pytest.mark.parametrize("batch_size", [None, 300])
def test_a_stage_has_nodes_of_its_own(setting: Setting, batch_size: int | None) -> None:
    steps: list[Tensor] = []
    lesson = lesson_of(setting, batch_size)
    said = lesson.teacher_logits().argmax(1)
    parts = [(0.25, "all"), (0.5, [3, 8]), (1.0, "labelled")]
    progressive(MLP(64, (8,), 10), lesson, parts=parts, method=watched(steps, []))
    each = len(steps) // 4
    first, second, last = (torch.cat(part) for part in (steps[:each], steps[each : 2 * each], steps[2 * each :]))
    assert first.sort().values.equal(torch.arange(len(lesson)))
    assert set(said[second].tolist()) == {3, 8}
    assert set(last.tolist()) == set(setting.train.tolist())
    if batch_size is None:
        assert second.unique().equal(torch.isin(said, torch.tensor([3, 8])).nonzero().flatten())
    else:
        assert all(len(nodes) == len(nodes.unique()) <= batch_size for nodes in steps)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([(0.5, "all")], "points of change must rise from above 0 to 1"),
        ([(1.0, "everything")], "nodes are 'all', 'labelled' or a list of classes"),
        (["all"], r"parts must be pairs \(until, nodes\)"),
        ([(1.0, ["a"])], "nodes are 'all', 'labelled' or a list of classes"),
        ([(0.5, "all"), (1.0, [11])], r"the stage with \[11\] has no nodes"),
    ],
)
def test_stages_that_are_none_are_named(setting: Setting, parts: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        progressive(MLP(64, (8,), 10), lesson_of(setting), parts=parts)


def test_a_method_with_samples_of_its_own_has_no_stages(setting: Setting) -> None:
    def own(model: nn.Module, lesson: Lesson) -> History:
        return lesson.train(model, lambda nodes: lesson.hard_loss(model), 7)

    with pytest.raises(ValueError, match="learns from 7 samples of its own"):
        progressive(MLP(64, (8,), 10), lesson_of(setting), method=own)
