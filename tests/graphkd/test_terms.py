"""Any loss on any layer: the graph's twin of a dense `distills`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import densekd.losses  # noqa: F401  registers losses that no graph can have
import kdlosses
from graphkd import StudentClassifier, recipes
from graphkd.data import Setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History
from graphkd.training.term import Term

QUICK = StudentClassifier(hidden=(32, 24), dropout=0.3, epochs=20)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=30, hidden=48))


def studied(setting: Setting, taught: Outcome, *distills: dict[str, Any], **options: Any) -> Outcome:
    return train_student(setting, taught.cache, dict(type="terms", distills=list(distills), **options), QUICK)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_one_kl_is_glnn_to_the_bit(setting: Setting, taught: Outcome, lam: float) -> None:
    x = setting.whole.x
    one = studied(setting, taught, dict(loss="kl"), lam=lam).model.predict_proba(x)
    two = train_student(setting, taught.cache, dict(type="glnn", lam=lam), QUICK).model.predict_proba(x)
    assert np.array_equal(one, two)


def test_weights_and_terms_add_up(setting: Setting, taught: Outcome) -> None:
    x = setting.whole.x
    half = dict(loss="kl", weight=0.5)
    one = studied(setting, taught, half, half).model.predict_proba(x)
    two = studied(setting, taught, dict(loss="kl")).model.predict_proba(x)
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_hidden_layer_is_projected_and_learnt(setting: Setting, taught: Outcome) -> None:
    """Features alone: the classifier sees labels only, the hidden layer moves towards the teacher's."""
    seen: list[float] = []

    def watched(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        assert student.shape == teacher.shape == (len(setting.seen), 48)
        value = kdlosses.LOSSES["mse"](student, teacher)
        seen.append(value.item())
        return value

    studied(setting, taught, dict(loss=watched, student="hidden"), lam=0.5)
    assert seen[-1] < 0.7 * seen[0]


def test_a_batch_shows_its_own_edges_labels_and_time(setting: Setting, taught: Outcome) -> None:
    progress = []

    def probe(
        student: torch.Tensor, teacher: torch.Tensor, labels: Any, edge_index: Any, epoch: Any, progress: Any
    ) -> Any:
        calls.append((len(student), labels, edge_index, epoch, progress))
        return student.square().mean()

    calls: list[Any] = []
    student = clone(QUICK).set_params(batch_size=500, epochs=2)
    train_student(setting, taught.cache, dict(type="terms", distills=[dict(loss=probe)]), student)
    assert [epoch for *_, epoch, _ in calls] == [0] * 4 + [1] * 4
    progress = [done for *_, done in calls]
    np.testing.assert_allclose(progress, np.arange(8) / 8)
    for size, labels, edges, _, _ in calls:
        assert len(labels) == size
        assert edges.max() < size
    whole = setting.seen.edge_index.shape[1]
    assert 0 < sum(edges.shape[1] for _, _, edges, _, _ in calls[:4]) < whole
    told = sum(int((labels >= 0).sum()) for _, labels, *_ in calls[:4])
    assert told == len(setting.train)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (dict(loss="kl", wieght=2.0), TypeError, "did you mean 'weight'"),
        (dict(student="logits"), TypeError, "needs a 'loss'"),
        (dict(loss="kll"), KeyError, "did you mean"),
        (dict(loss="mse", student="hidden:5"), ValueError, "has 2 hidden layers"),
        (dict(loss="mse", student="backbone"), ValueError, "a layer is 'logits'"),
        (dict(loss="mse", student="hidden", teacher="logits"), ValueError, "logits are not projected"),
        (dict(loss="kl", weight=float("nan")), TypeError, "finite"),
    ],
)
def test_a_wrong_entry_is_named_before_training(
    setting: Setting, taught: Outcome, entry: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        studied(setting, taught, entry)


def test_nothing_to_learn_is_an_error(setting: Setting, taught: Outcome) -> None:
    with pytest.raises(ValueError, match="distills is empty"):
        studied(setting, taught)


# --- every registered loss --------------------------------------------------------------------------------------------


def tiny(width: int = 6, seed: int = 0) -> tuple[MLP, Lesson]:
    """A student of 4 features, 5 classes and a hidden layer of 6, and what a teacher with one of `width` leaves."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(12) % 5
    labels[::3] = -1
    lesson = Lesson(
        torch.randn(12, 4, generator=draw),
        labels,
        lambda model, loss, nodes: History(),
        draw,
        teacher=torch.randn(12, 5, generator=draw),
        edge_index=torch.stack([torch.arange(12), torch.arange(12).roll(5)]),
        hidden=[torch.randn(12, width, generator=draw)],
        clock=Clock(epoch=1, progress=0.3),
    )
    return MLP(4, (6,), 5), lesson


def value_of(entry: dict[str, Any], model: MLP, lesson: Lesson) -> torch.Tensor:
    term, nodes = Term.parse(entry, model, lesson), slice(None)
    return term(model.outputs(lesson.x), nodes, lesson.context(nodes, term.loss.needs))


KNOWN = ("student_channels", "teacher_channels", "channels", "classes")


def required(key: str) -> list[str]:
    options = inspect.signature(kdlosses.LOSSES[key]).parameters.values()
    return [p.name for p in options if p.default is p.empty and p.name not in ("student", "teacher", *kdlosses.CONTEXT)]


UNSAID = {"ld": "5 channels are no distributions over two bins or more for 4 sides", "swing": "name classes, private="}
"""What a loss must be told, and nobody can know."""


@pytest.mark.parametrize("key", sorted(kdlosses.LOSSES))
def test_every_loss_runs_by_name_or_says_before_training_why_not(key: str) -> None:
    model, lesson = tiny()
    for layer in ("logits", "hidden"):
        entry = dict(loss=key, student=layer)
        unknown = [name for name in required(key) if name not in KNOWN]  # neither student nor teacher can tell
        if kdlosses.LOSSES[key].ground.maps or unknown:
            message = "|".join(["needs maps", *(f"requires the option '{name}'" for name in unknown)])
            with pytest.raises((TypeError, ValueError), match=message):
                Term.parse(entry, model, lesson)
            continue
        if layer == "logits" and "student_logits" in kdlosses.build(key, **dict.fromkeys(KNOWN, 8)).needs:
            with pytest.raises(ValueError, match="stands on a hidden layer"):  # beside which it reads the logits
                Term.parse(entry, model, lesson)
            continue
        if key in UNSAID:
            said = UNSAID[key].replace("5", str(model.widths[-1 if layer == "logits" else -2]))
            with pytest.raises(ValueError, match=f"distills entry '{key}': .*{re.escape(said)}"):
                Term.parse(entry, model, lesson)
            continue
        try:
            value = value_of(entry, model, lesson)
        except ValueError as error:
            assert layer == "hidden"
            assert "classes" in required(key)
            assert re.match(rf"distills entry '{key}': .*5", str(error))  # noqa: PT017
            continue
        value.backward()
        assert value.isfinite()
        if not Term.parse(entry, model, lesson).loss.active(epoch=1, progress=0.3):  # a policy that is off just now
            assert value == 0
            continue
        assert sum(p.grad.abs().sum() for p in model.parameters() if p.grad is not None) > 0


def test_widths_and_classes_are_filled_in_as_on_maps() -> None:
    model, lesson = tiny(width=7)
    for layer, mine, theirs in (("hidden", 6, 7), ("logits", 5, 5)):
        loss = Term.parse(dict(loss="vid", student=layer), model, lesson).loss
        assert loss.filled == {"student_channels", "teacher_channels"}
        shapes = [tuple(p.shape) for p in loss.parameters()]
        assert (theirs, mine) in shapes
    within = Term.parse(dict(loss=dict(type="ramp", loss="dac_kl")), model, lesson).loss
    assert within.filled == {"classes", "ignore_index"}
    projected = Term.parse(dict(loss="comodo", student="hidden"), model, lesson)
    assert projected.loss.loss.queue.items.shape[1] == 7  # the student is projected onto the teacher
    assert projected.project.weight.shape == (7, 6)
    stated = Term.parse(dict(loss=dict(type="nd", classes=9, channels=7), student="hidden"), model, lesson).loss
    assert stated.filled == {"ignore_index"}


def test_parameters_of_a_loss_are_drawn_once() -> None:
    """What follows in the run must not depend on how often an entry was looked at."""
    model, lesson = tiny()
    torch.manual_seed(3)
    loss = Term.parse(dict(loss="vid", student="hidden"), model, lesson).loss
    after = torch.rand(())
    torch.manual_seed(3)
    alone = kdlosses.build(dict(type="vid", student_channels=6, teacher_channels=6))
    assert after == torch.rand(())
    assert all(torch.equal(a, b) for a, b in zip(loss.parameters(), alone.parameters()))


def test_logits_reach_a_loss_on_another_layer() -> None:
    model, lesson = tiny()
    seen = {}

    def probe(student: torch.Tensor, teacher: torch.Tensor, student_logits: Any, teacher_logits: Any) -> Any:
        seen.update(student=student_logits, teacher=teacher_logits)
        return student.square().mean()

    value_of(dict(loss=probe, student="hidden"), model, lesson)
    assert torch.equal(seen["student"], model(lesson.x))
    assert torch.equal(seen["teacher"], lesson.teacher)


def test_at_weight_0_a_term_asks_nothing_and_is_0() -> None:
    def probe(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        raise AssertionError("it was asked")

    value = value_of(dict(loss=probe, weight=0.0), *tiny())
    assert value == 0
    value.backward()


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (dict(type="terms", distills=[dict(loss="kll")]), KeyError, "did you mean 'kl'"),
        (dict(type="terms", distills=[dict(loss="mgd")]), ValueError, "needs maps"),
        (dict(type="terms", distills=[dict(loss="unidistill_heatmap")]), TypeError, "requires the option"),
        (dict(type="terms", distills=[dict(loss="no_such_module:mine")]), ValueError, "no module named 'no_such"),
        (dict(type="terms", distills=[dict(loss="math:pip")]), ValueError, "has no 'pip'; did you mean 'pi'"),
        (dict(type="terms", distills=[dict(loss="math:pi")]), TypeError, "not float"),
        (dict(type="terms", distills=[dict(loss="kl", weight=-1.0)]), ValueError, "weight must be at least 0"),
        (dict(type="terms", distills=[dict(loss="kl", teacher="hiden")]), ValueError, "a layer is"),
        (dict(type="terms", distills=[dict(loss=dict(type="kl", tau=float("inf")))]), ValueError, "finite"),
        (dict(type="mixup", loss="std_kdd"), KeyError, "did you mean 'std_kd'"),
        (dict(type="rounded", method=dict(type="terms", distills=[dict(loss="kll")])), KeyError, "did you mean 'kl'"),
        (dict(type="glnn", lam=1.5), ValueError, "lam is the weight of the labels"),
    ],
)
def test_a_wrong_method_is_named_before_there_is_a_teacher(
    method: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recipes.check_method(method)


def test_a_loss_of_ones_own_by_its_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_graph_losses.py").write_text(
        "def halved(student, teacher, scale=0.5):\n    return scale * (student - teacher).abs().mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = dict(loss=dict(type="own_graph_losses:halved", scale=0.25))
    recipes.check_method(dict(type="terms", distills=[entry]))
    model, lesson = tiny()
    expected = 0.25 * (model(lesson.x) - lesson.teacher).abs().mean()
    torch.testing.assert_close(value_of(entry, model, lesson), expected)


def test_private_nodes_come_with_the_cache() -> None:
    """`swing` hides those nodes alone; without them, and without a private class, it is refused before training."""
    x, teacher = torch.randn(12, 6), 5 * torch.randn(12, 3)
    private = torch.arange(12) % 3 == 0
    lesson = Lesson(x, torch.zeros(12).long(), lambda *_: History(), torch.Generator(), teacher)
    told = dataclasses.replace(lesson, more={"privacy": private})
    model, entry = MLP(6, (8,), 3), dict(loss=dict(type="swing", noise=0.0))
    with pytest.raises(ValueError, match="distills entry 'swing': swing hides nothing"):
        Term.parse(entry, model, lesson)
    term, nodes = Term.parse(entry, model, told), torch.tensor([0, 1, 3, 7])
    value = term(model.outputs(x[nodes]), nodes, told.context(nodes, term.loss.needs))
    expected = kdlosses.swing(model(x[nodes]), teacher[nodes], noise=0.0, privacy=private[nodes])
    torch.testing.assert_close(value, expected)
