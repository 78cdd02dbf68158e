"""Heads between a hidden layer and a loss, and a student of subclasses, on the digits graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import RecipeContract
from torch import Tensor

import kdlosses
from graphkd import StudentClassifier, distill
from graphkd.data import Setting, cpf_split, make_setting
from graphkd.data.digits import parity
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from graphkd.training.term import Term

ONE = dict(subclasses=1)
CONTRACT = RecipeContract("lelp", options=ONE, undrawn=ONE, short=ONE, without_edges=ONE)

QUICK = StudentClassifier(hidden=(32, 24), dropout=0.3, epochs=20)
OFA = dict(loss="ofa", student="hidden:0", teacher="logits", head="branch")


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=30, hidden=48))


def never(*_: Any) -> History:
    raise AssertionError


def lesson_of(setting: Setting, logits: Tensor) -> Lesson:
    labels = torch.full((len(setting.seen),), -1)
    labels[setting.train] = setting.seen.y[setting.train]
    return Lesson(setting.seen.x, labels, never, torch.Generator(), logits)


def studied(setting: Setting, taught: Outcome, *distills: dict[str, Any], **options: Any) -> Outcome:
    return train_student(setting, taught.cache, dict(type="terms", distills=list(distills), **options), QUICK)


@pytest.mark.parametrize("label_loss", [0.0, 0.5])
def test_the_loss_is_that_of_the_logits_of_the_head(setting: Setting, label_loss: float) -> None:
    torch.manual_seed(0)
    model, logits = MLP(64, (32, 24), 10), torch.randn(len(setting.seen), 10)
    lesson, everyone = lesson_of(setting, logits), slice(None)
    head = dict(type="linear", label_loss=label_loss)
    term = Term(model, lesson, "kl", "hidden:0", "logits", weight=2.0, head=head)
    outputs = model.outputs(setting.seen.x)
    mine = outputs[0] @ term.between.weight.T + term.between.bias
    expected = 2 * kdlosses.kl(mine, logits)
    expected = expected + 2 * label_loss * F.cross_entropy(mine[setting.train], setting.seen.y[setting.train])
    torch.testing.assert_close(term(outputs, everyone, lesson.context(everyone, ())), expected)


def test_a_second_head_may_be_linear(setting: Setting, taught: Outcome) -> None:
    method = dict(type="dual_head", wide=None)
    student = StudentClassifier((8,), method=method, epochs=1, random_state=0)
    student.fit(setting.seen.x, setting.seen.y, teacher=taught.cache, labelled=setting.train)
    assert len(student.history_.seconds) == 1


def test_heads_are_learnt_and_thrown_away(setting: Setting, taught: Outcome) -> None:
    branches = [{**OFA, "student": f"hidden:{i}", "head": name} for i, name in enumerate(("branch", "mlp"))]
    outcome = studied(setting, taught, dict(loss="ofa"), *branches, lam=0.5)
    plain = studied(setting, taught, dict(loss="ofa"), lam=0.5)
    assert {*outcome.model.network_.state_dict()} == {*plain.model.network_.state_dict()}
    assert outcome.metrics["tran"] > 0.7


def test_a_hidden_layer_tells_the_classes_through_its_head(setting: Setting, taught: Outcome) -> None:
    """No loss reaches the logits: the layer and its head learn the classes from the teacher, the last layer nothing."""
    kept = []

    class Own(torch.nn.Linear):
        def __init__(self, channels: int, classes: int) -> None:
            super().__init__(channels, classes)
            kept.append(self)

    entry = {**OFA, "head": Own}
    student = StudentClassifier((32,), method=dict(type="terms", distills=[entry]), epochs=60, random_state=0)
    x, y, test = setting.whole.x, setting.whole.y, setting.test
    student.fit(setting.seen.x, setting.seen.y, teacher=taught.cache, labelled=setting.train)
    with torch.no_grad():
        hidden, logits = student.network_.outputs(x)
        found = [(z.argmax(1) == y)[test].float().mean().item() for z in (kept[-1](hidden), logits)]
    assert found[0] > 0.85
    assert found[1] < 0.4


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({**OFA, "head": "brunch"}, KeyError, "no head is called 'brunch'; did you mean 'branch'"),
        ({**OFA, "head": dict(type="mlp", wides=3)}, TypeError, "did you mean 'wide'"),
        ({**OFA, "teacher": None}, ValueError, "a head needs teacher="),
        ({**OFA, "student": "logits"}, ValueError, "a head stands on a hidden layer"),
        (dict(loss="uskd"), ValueError, "the loss stands on a hidden layer, student='hidden' or 'hidden:i', not on"),
    ],
)
def test_a_wrong_head_is_named_before_a_teacher_is_trained(
    setting: Setting, entry: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distill(
            setting.whole, dict(type="nothing"), dict(type="terms", distills=[entry]), student=QUICK, setting="tran"
        )


def test_a_head_of_other_classes_than_the_teacher_is_named(setting: Setting, taught: Outcome) -> None:
    method = dict(type="terms", distills=[{**OFA, "head": dict(type="branch", classes=3)}])
    with pytest.raises(
        ValueError, match=r"head=dict\(classes=3\) makes 3 logits, and the tap of the teacher yields 10"
    ):
        train_student(setting, taught, method, QUICK)


def test_a_loss_for_nodes_without_a_label_needs_one(setting: Setting, taught: Outcome) -> None:
    every = replace(setting, seen=setting.whole, train=torch.arange(len(setting.whole)))
    method = dict(type="terms", distills=[dict(loss="prokd", teacher="hidden")], lam=0.5)
    with pytest.raises(ValueError, match="it teaches nodes without a label, and each of the 1797 nodes has one"):
        train_student(every, taught, method, QUICK)


# --- subclasses -------------------------------------------------------------------------------------------------------


def test_classes_are_sums_of_subclasses_that_stay_in_the_student(
    setting: Setting, taught: Outcome, tmp_path: Path
) -> None:
    x = setting.whole.x
    student = train_student(setting, taught.cache, dict(type="lelp", subclasses=3), QUICK).model
    with torch.no_grad():
        each = student.network_.layers[-1].layer(student.network_.outputs(x)[-2]).softmax(1)
    np.testing.assert_allclose(student.predict_proba(x), each.view(len(x), 10, 3).sum(2), atol=1e-5)
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x), student.predict_proba(x))


def test_subclasses_of_two_classes_find_kinds_that_the_labels_do_not_name() -> None:
    """Even and odd digits: the student's subclasses tell the digits apart, of which it is told nothing."""
    graph = parity()
    setting = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    taught = train_teacher(setting, dict(type="sage", epochs=25, hidden=48))
    found = {}
    for tau in (0.3, 1e6):  # the second splits every class evenly
        method = dict(type="lelp", subclasses=5, subclass_tau=tau)
        student = train_student(setting, taught.cache, method, StudentClassifier((32,), epochs=30)).model
        with torch.no_grad():
            kind = student.network_.layers[-1].layer(student.network_.outputs(graph.x)[-2]).argmax(1)
        from sklearn.datasets import load_digits
        from sklearn.metrics import adjusted_mutual_info_score

        found[tau] = adjusted_mutual_info_score(load_digits().target, kind)
    assert found[0.3] > found[1e6] + 0.1


def test_what_lelp_needs_of_its_teacher_is_named(setting: Setting, taught: Outcome) -> None:
    with pytest.raises(ValueError, match="lelp: it needs the embeddings of one teacher"):
        StudentClassifier((8,), method="lelp", epochs=1).fit(
            setting.seen.x, setting.seen.y, teacher=torch.zeros(len(setting.seen), 10), labelled=setting.train
        )
    with pytest.raises(ValueError, match="40 subclasses do not fit: a classifier of 10 classes leaves 39 of 48"):
        train_student(setting, taught.cache, dict(type="lelp", subclasses=40), QUICK)
