"""Where a training runs, in what precision, and who is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphkd
from graphkd import Graph, StudentClassifier, digits, make_setting, train_teacher
from graphkd.data import cpf_split
from graphkd.networks.mlp import MLP
from graphkd.recipes import HANDS_ON, RECIPES
from graphkd.training.watch import Event, checked_device

STUDENT = StudentClassifier((32,), epochs=4)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", 0, "vulkan"])
def test_a_device_that_is_none_is_refused_before_training(graph: Graph, device: Any) -> None:
    with pytest.raises(ValueError, match="device"):
        graphkd.distill(graph, dict(type="sage", epochs=10**6), student=STUDENT, device=device)
    with pytest.raises(ValueError, match="device"):
        StudentClassifier(device=device, epochs=10**6).fit(graph.x, graph.y)
    with pytest.raises(ValueError, match="device"):
        train_teacher(
            make_setting(graph, cpf_split(graph.y, 0), "tran", 0), dict(type="sage", epochs=10**6), device=device
        )


def test_a_device_that_is_there_changes_nothing(graph: Graph) -> None:
    teacher = dict(type="sage", epochs=5)
    plain = graphkd.distill(graph, teacher, student=STUDENT, setting="tran")
    placed = graphkd.distill(graph, teacher, student=STUDENT, setting="tran", device="cpu")
    assert plain.metrics == placed.metrics
    np.testing.assert_array_equal(plain.cache.logits, placed.cache.logits)
    assert placed.student.device == "cpu"
    assert STUDENT.device is None  # the user's own stays as it is
    assert checked_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_methods_that_work_on_parameters_are_refused_elsewhere(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(RECIPES) > HANDS_ON
    other = torch.device("cuda")
    for name in HANDS_ON:
        with pytest.raises(ValueError, match=f"the method '{name}' works on the parameters of its student"):
            graphkd.recipes.check_run(dict(type="mixup", method=name), other)
    graphkd.recipes.check_run("glnn", other)
    with pytest.raises(ValueError, match="'adagmlp' trains a network of its own, which amp does not reach"):
        StudentClassifier(method="adagmlp", amp=True).check_settings()
    with pytest.raises(TypeError, match="amp is True or False, got 'yes'"):
        StudentClassifier(amp="yes").check_settings()  # type: ignore[arg-type]


def test_products_are_in_bfloat16_in_training_alone() -> None:
    model, kinds = MLP(8, (4,), 3), []
    model.layers[0].register_forward_hook(lambda _module, _given, out: kinds.append(out.dtype))
    for amp, training in ((False, True), (True, True), (True, False)):
        model.amp = amp
        assert model.train(training)(torch.randn(2, 8)).dtype is torch.float32
    assert kinds == [torch.float32, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("sparse", [False, True])
def test_a_student_learns_in_bfloat16(graph: Graph, sparse: bool, tmp_path: Path) -> None:
    x = graph.x.to_dense().to_sparse_csr() if sparse else graph.x.to_dense()
    fitted = [
        StudentClassifier((64,), epochs=40, amp=amp, random_state=0, batch_size=None).fit(x, graph.y)
        for amp in (False, True)
    ]
    plain, half = (student.history_.losses for student in fitted)
    assert plain != half
    np.testing.assert_allclose(half, plain, rtol=0.15)
    assert fitted[1].score(x, graph.y) > fitted[0].score(x, graph.y) - 0.02
    fitted[1].save(tmp_path / "student")
    assert StudentClassifier.load(tmp_path / "student").amp is True


@pytest.mark.parametrize("name", ["sage", "gcn", "gat", "appnp", "vqsage"])
def test_teachers_learn_in_bfloat16(graph: Graph, name: str) -> None:
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    outcome = train_teacher(view, dict(type=name, epochs=30), amp=True)
    assert outcome.metrics["tran"] > 0.8
    assert outcome.cache is not None
    assert outcome.cache.logits.dtype == np.float32
    plain = train_teacher(view, dict(type=name, epochs=30))
    assert plain.cache is not None
    assert not np.array_equal(plain.cache.logits, outcome.cache.logits)


def test_a_sampled_teacher_learns_in_bfloat16(graph: Graph) -> None:
    teacher = dict(type="sage", epochs=15, batch_size=64)
    student = StudentClassifier((32,), epochs=4, batch_size=512)
    result = graphkd.distill(graph, teacher, student=student, setting="tran", scale="sampled", amp=True)
    assert result.metrics["teacher"]["tran"] > 0.8
    assert result.student.amp


@pytest.mark.parametrize("scale", ["full", "sampled"])
def test_a_callback_is_told_of_every_epoch(graph: Graph, scale: Any) -> None:
    events: list[Event] = []
    student = StudentClassifier((8,), epochs=3, batch_size=900)
    result = graphkd.distill(
        graph, dict(type="sage", epochs=2), student=student, setting="tran", scale=scale, callback=events.append
    )
    told = [(event.role, event.epoch, event.epochs) for event in events]
    expected = [("teacher", 0, 2), ("teacher", 1, 2)]
    assert told == expected + [(role, epoch, 3) for role in ("control", "student") for epoch in range(3)]
    history = result.student.history_
    assert [event.loss for event in events[-3:]] == history.losses
    assert [event.seconds for event in events[-3:]] == history.seconds
    assert max(event.score or 0 for event in events[-3:]) == history.score


def test_what_a_callback_raises_ends_the_training(graph: Graph) -> None:
    def stop(event: Event) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    student = StudentClassifier((8,), epochs=10**6)
    with pytest.raises(KeyboardInterrupt):
        student.fit(graph.x, graph.y, callback=stop)
    assert isinstance(student.network_, nn.Module)
    with pytest.raises(TypeError, match="callback is a function of an epoch's Event"):
        student.fit(graph.x, graph.y, callback=3)  # type: ignore[arg-type]


def test_nothing_is_printed_unless_asked(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    student = StudentClassifier((8,), epochs=3, batch_size=900)
    for scale in ("full", "sampled"):
        options: dict[str, Any] = dict(student=student, setting="tran", scale=scale)
        graphkd.distill(graph, dict(type="sage", epochs=30), **options)
        assert capfd.readouterr() == ("", "")
        graphkd.distill(graph, dict(type="sage", epochs=30), **options, progress=True)
        out, bars = capfd.readouterr()
        assert not out
        assert "30/30" in bars
        assert all(f"{role}: " in bars for role in ("teacher", "control", "student"))
