"""Weights that are measured, and what is told of a distillation, in a distiller."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.logging import MessageHub
from torch import nn

from densekd import Distillation, Distiller, fit
from densekd.taps.reader import Taps
from kdlosses.diagnosis import WINDOW

from .conftest import TinySegmenter, seg_batch

TAP = "decode_head.conv_seg"
Taught = Callable[..., Distiller]


def still(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return model


@pytest.mark.parametrize(
    ("entry", "options", "share"),
    [
        ({"loss": "kl", "student": TAP, "weight": "auto"}, {}, 1.0),
        (
            {"loss": "mse", "student": "backbone:2", "teacher": "backbone:3", "adapt": "conv1x1", "weight": "auto"},
            {},
            1.0,
        ),
        ({"loss": "kl", "student": TAP, "weight": {"type": "auto", "ratio": 0.3}}, {}, 0.3),
        ({"loss": "kl", "student": TAP, "weight": 77.0}, {"balance": "auto"}, 1.0),
    ],
)
def test_the_gradient_at_the_tap_is_as_large_as_the_tasks(
    taught: Taught, entry: dict[str, Any], options: dict[str, Any], share: float
) -> None:
    model = still(taught(entry, **options)).train()
    batch = seg_batch(model)
    with Taps(model, [entry["student"]]) as taps:
        losses = model(**batch, mode="loss")
    shared = taps[entry["student"]]
    term = losses.pop(f"distill.loss_{entry['loss']}")
    task = sum(value for key, value in losses.items() if "loss" in key)
    norms = [
        torch.cat([each.flatten() for each in torch.autograd.grad(loss, shared, retain_graph=True)]).norm()
        for loss in (task, term)
    ]
    torch.testing.assert_close(norms[1], share * norms[0])
    kept = MessageHub.get_current_instance().get_scalar(f"train/distill.weight_{entry['loss']}").current()
    weights = [value for key, value in model.state_dict().items() if key.endswith("auto.ratios")]
    assert kept == pytest.approx(share * weights[0][0].item(), rel=1e-5)
    model.eval()
    with torch.no_grad():  # a validation measures nothing, and keeps the weight
        model(**batch, mode="loss")
    assert weights[0][1:].isnan().all()


def test_the_entries_of_a_method_share_the_ratio(taught: Taught) -> None:
    model = taught(method="bpkd", balance={"type": "auto", "ratio": 3.0, "steps": 7})
    terms = model._terms()
    assert [term.auto.ratio for term in terms] == [1.5, 1.5]
    assert {len(term.auto.ratios) for term in terms} == {7}
    off = taught({"loss": "kl", "student": TAP, "weight": 0}, {"loss": "mse", "student": TAP}, balance="auto")
    assert [term.auto and term.auto.ratio for term in off._terms()] == [None, 1.0]


def test_a_student_without_losses_has_no_weight_measured(taught: Taught) -> None:
    model = taught({"loss": "kl", "student": TAP, "weight": "auto"}).train()
    with pytest.raises(ValueError, match="beside the student's own losses, and it has none: give a number"):
        model._task({"accuracy": torch.ones(())})


def test_another_distillation_of_a_student_is_looked_at_anew(taught: Taught) -> None:
    model = taught({"loss": "kl", "student": TAP})
    model._diagnosis.steps = 7
    teacher = model.teachers["teacher"].model
    again = Distiller(student=model, teacher=teacher, distills=[{"loss": "kl", "student": TAP}])
    assert again is model
    assert again._diagnosis.steps == 0


def test_a_wrong_balance_is_named(taught: Taught) -> None:
    with pytest.raises(ValueError, match="balance must be None, 'auto'"):
        taught(method="cwd", balance=3.0)
    with pytest.raises(TypeError, match="'kl': weight 'auto' has no option 'rate'"):
        taught({"loss": "kl", "student": TAP, "weight": {"type": "auto", "rate": 1}})
    with pytest.raises(ValueError, match=r"back=True.*give a number"):
        taught({"loss": "kl", "student": TAP, "weight": "auto", "back": True}, online=["teacher"])


def test_what_is_wrong_is_logged_in_training(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Distiller, "_tell", lambda self, message: heard.append(message))
    planted = [
        {"loss": "kl", "student": TAP, "weight": 5000.0, "name": "strong"},
        {"loss": "kl", "student": TAP, "weight": 1e-5, "name": "weak"},
        {"loss": {"type": "kl", "tau": 1e-5}, "student": TAP, "weight": 1e-4, "name": "sharp"},
    ]
    run(taught(*planted))
    by_name = {name: [m for m in heard if f"'{name}'" in m] for name in ("strong", "weak", "sharp")}
    assert "so that the labels hardly count" in by_name["strong"][0]
    assert "so that it hardly counts" in by_name["weak"][0]
    assert any("one-hot" in message for message in by_name["sharp"])
    heard.clear()
    model = taught({"loss": "kl", "student": TAP})
    with torch.no_grad():
        model.teachers["teacher"].model.decode_head.conv_seg.weight.zero_()
        model.teachers["teacher"].model.decode_head.conv_seg.bias.zero_()
    run(model)
    assert any("tap 'decode_head.conv_seg' of the teacher 'teacher' yields zeros alone" in each for each in heard)


def test_a_teacher_that_knows_less_than_its_student_is_told(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Distiller, "_tell", lambda self, message: heard.append(message))
    model = taught({"loss": "kl", "student": TAP, "weight": 0.01})
    batch = seg_batch(model)
    for sample in batch["data_samples"]:
        sample.gt_sem_seg.data[:] = 4
    with torch.no_grad():
        model.decode_head.conv_seg.bias[4] = 100.0
        model.teachers["teacher"].model.decode_head.conv_seg.bias[3] = 100.0
    run(model, batch)
    assert any("agrees with the labels less than the student does, by 100.0 points" in each for each in heard)


def test_a_healthy_distillation_is_silent(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Distiller, "_tell", lambda self, message: heard.append(message))
    model = taught(
        {"loss": {"type": "kl", "tau": 2.0}, "student": TAP}, {"loss": "cwd", "student": TAP, "weight": "auto"}
    )
    batch = seg_batch(model)
    teacher = model.teachers["teacher"].model
    with torch.no_grad():  # one that knows the labels: they are its own
        labels = teacher(seg_batch(teacher)["inputs"]).argmax(1)
    for sample, label in zip(batch["data_samples"], labels):
        found = nn.functional.interpolate(label[None, None].float(), size=(64, 64), mode="nearest")
        sample.gt_sem_seg.data = found[0].long()
    model._diagnosis.every = 1
    optimiser = torch.optim.Adam(still(model).train().parameters(), lr=1e-3)
    for _ in range(2 * WINDOW):
        losses = model.parse_losses(model(**batch, mode="loss"))[0]
        optimiser.zero_grad()
        losses.backward()
        optimiser.step()
    assert not heard


def run(model: Distiller, batch: dict[str, Any] | None = None) -> None:
    """Training steps that are looked at; nothing is learned."""
    still(model).train()
    batch = batch or seg_batch(model)
    model._diagnosis.every = 1
    for _ in range(WINDOW):
        model(**batch, mode="loss")


def test_any_pytorch_model_needs_the_task_for_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    images, labels = torch.rand(2, 3, 8, 8), torch.randint(5, (2, 8, 8))
    entries = [{"loss": "kl", "student": "2", "weight": "auto"}]
    model = Distillation(net, nn.Conv2d(3, 5, 1), [{**entries[0], "teacher": ":"}], example=images)
    with pytest.raises(ValueError, match=r"call distillation\(..., task=lambda output: loss\)"):
        model(images)
    losses = model(images, task=lambda output: nn.functional.cross_entropy(output, labels))[1]
    assert losses["kl"] > 0
    assert model.connectors["kl"].auto.ratios.isfinite().sum() == 1
    model.eval()
    assert torch.equal(model(images)[1]["kl"], losses["kl"])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("what", ["distillation", "student"])
def test_a_weight_is_the_same_where_torch_compiles(backend: str, what: str) -> None:
    """The steps that measure run uncompiled, also the student's own compiled graph; the others are compiled."""
    graphs: list[int] = []

    def count(graph: Any, examples: Any) -> Any:
        graphs.append(len(found))
        return torch._dynamo.lookup_backend(backend)(graph, examples)

    def weights(compiled: bool) -> list[list[float]]:
        torch.manual_seed(0)
        net = [nn.Sequential(nn.Conv2d(3, w, 3, padding=1), nn.ReLU(), nn.Conv2d(w, 5, 1)) for w in (4, 8)]
        images, labels = torch.rand(2, 3, 8, 8), torch.randint(5, (2, 8, 8))
        auto = {"type": "auto", "steps": 2}
        entries = [{"loss": "kl", "student": "2", "weight": auto}, {"loss": "mse", "student": "1", "weight": auto}]
        model = Distillation(*net, entries, example=images).train()
        called = model
        if compiled and what == "student":
            model.student = torch.compile(model.student, backend=count)
        elif compiled:
            called = torch.compile(model, backend=count)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        found.clear()
        for _ in range(4):
            output, losses = called(images, task=lambda output: nn.functional.cross_entropy(output, labels))
            loss = nn.functional.cross_entropy(output, labels) + sum(losses.values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append([loss.item(), *(term.auto.weight.item() for term in model._terms)])
        return list(found)

    found: list[list[float]] = []
    expected = weights(compiled=False)
    torch._dynamo.reset()
    try:
        torch.testing.assert_close(weights(compiled=True), expected)
    finally:
        torch._dynamo.reset()
    assert min(row[1] for row in expected) > 0
    assert graphs
    assert set(graphs) == {2}  # nothing is compiled before both weights are known


def test_mmengine_compiles_a_distiller_whose_weight_is_measured(taught: Taught) -> None:
    def weights(compiled: bool) -> list[float]:
        model = still(taught({"loss": "kl", "student": TAP, "weight": {"type": "auto", "steps": 2}})).train()
        batch, optimiser = seg_batch(model), torch.optim.SGD(model.parameters(), lr=0.01)
        if compiled:
            model.forward = torch.compile(model.forward, backend="eager")  # as mmengine's runner does
        for _ in range(2):
            loss = model.parse_losses(model(**batch, mode="loss"))[0]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return model.distill["kl"].auto.ratios.tolist()

    try:
        assert weights(True) == pytest.approx(weights(False))
    finally:
        torch._dynamo.reset()


def test_a_classifier_of_images_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Distillation, "_tell", lambda self, message: heard.append(message))
    torch.manual_seed(0)
    student, teacher, x = nn.Linear(3, 4), nn.Linear(3, 4), torch.rand(6, 3)
    with torch.no_grad():
        teacher.weight.mul_(1e5)
    model = Distillation(student, teacher, [{"loss": "kl", "student": ":"}], example=x, classes=4)
    model._diagnosis.every = 1
    for _ in range(WINDOW):
        model(x, context={"labels": student(x).argmax(1)})
    assert any("is one-hot" in message for message in heard)
    assert any("agrees with the labels less" in message for message in heard)


def test_what_is_no_task_is_named() -> None:
    net, images = nn.Conv2d(3, 5, 1), torch.rand(2, 3, 8, 8)
    entry = {"loss": "kl", "student": ":", "weight": "auto"}
    model = Distillation(net, nn.Conv2d(3, 5, 1), [entry], example=images)
    wrong: Any
    for wrong, words in (
        (net(images).sum(), "task must be a function of the student's output.*got a Tensor"),
        (lambda output: output.sum().item(), "must return a tensor without axes, got float"),
        (lambda output: output, r"must return a tensor without axes, got \(2, 5, 8, 8\)"),
    ):
        with pytest.raises(TypeError, match=words):
            model(images, task=wrong)


def test_fit_balances() -> None:
    torch.manual_seed(0)
    data = [(torch.rand(3, 8, 8), torch.randint(3, (8, 8))) for _ in range(8)]

    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))

    entries = [{"loss": "kl", "student": "2", "weight": 1e9}]
    options: dict[str, Any] = dict(train=data, val=data, distills=entries, epochs=2, device="cpu", log=str)
    result = fit(net, net(), balance="auto", **options)
    assert result.outcomes["student"].metrics["val mIoU"] > 0


def test_processes_measure_one_weight(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    mp.spawn(_measure, (port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(one["ratios"], other["ratios"], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(one["ratios"][0], (one["own"] * other["own"]).sqrt())


def _measure(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    found: dict[str, Any] = {}
    for group in (False, True):
        torch.manual_seed(0)
        student, teacher = (TinySegmenter(channels=5, classes=5) for _ in range(2))
        entries = [{"loss": "kl", "student": TAP, "weight": "auto"}]
        model = Distiller(student=student, teacher=teacher, distills=entries).train()
        batch = seg_batch(model, size=16)
        for sample in batch["data_samples"]:
            sample.gt_sem_seg.data = torch.randint(0, 5, (1, 16, 16), generator=torch.Generator().manual_seed(rank))
        batch["inputs"] = batch["inputs"] * (1 + rank)
        if group:
            dist.init_process_group("gloo", rank=rank, world_size=2)
        model(**batch, mode="loss")
        ratios = model.distill["kl"].auto.ratios
        found |= {"ratios": ratios} if group else {"own": ratios[0].clone()}
    dist.destroy_process_group()
    torch.save(found, Path(folder) / f"{rank}.pt")
