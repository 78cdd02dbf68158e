"""The ground truth of nodes as a source of an entry of `terms`."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import check_method, check_task
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from graphkd.training.task import TASKS
from graphkd.training.term import Term

NODES, CLASSES = 12, 5


def tiny(labels: Tensor, teachers: int = 1, task: str = "single-label") -> tuple[MLP, Lesson]:
    torch.manual_seed(0)
    teacher = torch.randn(NODES, teachers * CLASSES)
    lesson = Lesson(
        torch.randn(NODES, 4), labels, lambda *_: History(), torch.Generator(), teacher, hidden=[torch.randn(NODES, 6)]
    )
    return MLP(4, (6,), CLASSES), dataclasses.replace(lesson, task=TASKS[task])


def classes() -> Tensor:
    labels = torch.arange(NODES) % CLASSES
    labels[::3] = -1
    return labels


def value_of(entry: dict[str, Any], model: MLP, lesson: Lesson, nodes: Tensor | slice = slice(None)) -> Tensor:
    term = Term.parse(entry, model, lesson)
    return term(model.outputs(lesson.x[nodes]), nodes, lesson.context(nodes, term.loss.needs))


@pytest.mark.parametrize("nodes", [slice(None), torch.tensor([0, 4, 5, 9])], ids=["all", "batch"])
def test_kl_to_the_truth_is_the_loss_of_the_labelled_nodes(nodes: Tensor | slice) -> None:
    model, lesson = tiny(classes())
    value = value_of(dict(loss="kl", source="truth"), model, lesson, nodes)
    logits, labels = model(lesson.x)[nodes], lesson.labels[nodes]
    torch.testing.assert_close(value, F.cross_entropy(logits, labels, ignore_index=-1), rtol=1e-4, atol=1e-6)


def test_smoothed_labels_have_the_gradient_of_smoothed_cross_entropy() -> None:
    model, lesson = tiny(classes())
    value = value_of(dict(loss="kl", source="truth", smoothing=0.2), model, lesson)
    task = F.cross_entropy(model(lesson.x), lesson.labels, ignore_index=-1, label_smoothing=0.2)
    parameters = list(model.parameters())
    for ours, its in zip(*(torch.autograd.grad(each, parameters) for each in (value, task))):
        torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-6)


def test_several_labels_are_sigmoids_and_numbers_are_themselves() -> None:
    several = torch.randint(2, (NODES, CLASSES))
    several[0] = -1
    model, lesson = tiny(several, task="multi-label")
    value = value_of(dict(loss="binary_kl", source="truth"), model, lesson)
    task = lesson.task.hard(model(lesson.x)[1:], several[1:])
    torch.testing.assert_close(value, task, rtol=1e-4, atol=1e-6)

    numbers = torch.randn(NODES, CLASSES)
    numbers[0] = torch.nan
    model, lesson = tiny(numbers, task="regression")
    value = value_of(dict(loss="mse", source="truth"), model, lesson)
    torch.testing.assert_close(value, lesson.task.hard(model(lesson.x)[1:], numbers[1:]))


def test_numbers_with_a_tough_and_a_tolerant_teacher() -> None:
    numbers = torch.randn(NODES, CLASSES)
    numbers[0] = torch.nan
    model, lesson = tiny(numbers, teachers=2, task="regression")
    value = value_of(dict(loss="assistive", source=["truth", "teacher"]), model, lesson)
    stacked = torch.cat([numbers, lesson.teacher], 1)[1:]
    torch.testing.assert_close(value, kdlosses.assistive(model(lesson.x)[1:], stacked, "first"))


def test_truth_and_teacher_are_averaged() -> None:
    model, lesson = tiny(classes())
    value = value_of(dict(loss="average", source=["teacher", "truth"]), model, lesson)
    told = lesson.labels >= 0
    mean = (lesson.teacher.softmax(1)[told] + F.one_hot(lesson.labels[told], CLASSES)) / 2
    expected = (mean * (mean.log() - model(lesson.x)[told].log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "head": (dict(head="linear"), "a head has no meaning where a source is 'truth'"),
    "unknown": (dict(source="labels"), "source is 'teacher', 'truth', or a list of both, got 'labels'"),
    "features": (dict(loss="mse", student="hidden"), "a value for each class, student='hidden' has not"),
    "tap": (dict(teacher="logits"), "has no tap"),
    "infinite": (dict(loss="rkl"), "no finite value where a class is certain"),
    "one teacher": (dict(source=["truth", "teacher"]), "takes one teacher, not several sources"),
    "not first": (dict(loss="assistive", source=["teacher", "truth"]), "its loss takes 'truth' first, got source="),
    "smoothing": (dict(source="teacher", smoothing=0.1), "its source is not 'truth'"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_has_no_meaning_is_named_before_training(change: dict[str, Any], message: str) -> None:
    entry = {**dict(loss="kl", source="truth"), **change}
    with pytest.raises((TypeError, ValueError), match=message):
        value_of(entry, *tiny(classes()))
    if "finite" not in message:  # all else is known before there is a teacher
        with pytest.raises((TypeError, ValueError), match=message):
            check_method(dict(type="terms", distills=[entry]))


def test_labels_and_what_they_are_count() -> None:
    with pytest.raises(ValueError, match="'kl': source 'truth' needs labels, and no node has any"):
        value_of(dict(loss="kl", source="truth"), *tiny(torch.full((NODES,), -1)))
    method = dict(type="terms", distills=[dict(loss="mse", source="truth", smoothing=0.1)])
    with pytest.raises(ValueError, match="smoothing is of labels, the targets are numbers"):
        check_task(method, "regression")
