from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_state_dict
from torch import Tensor, nn

import kdlosses
from densekd import Distiller
from densekd.mmlab.building import build_model

from .conftest import det_batch, seg_batch

CWD = {"loss": {"type": "cwd", "tau": 4.0}, "student": "decode_head.conv_seg", "weight": 3.0}
MSE = {"loss": "mse", "student": "backbone:2", "teacher": "backbone:3", "adapt": "conv1x1"}
Taught = Callable[..., Distiller]


def plain(seg: Config) -> nn.Module:
    torch.manual_seed(0)
    return build_model(seg)[0]


# --- it is the student ------------------------------------------------------------------------------------------------


def test_loss_is_the_students_plus_the_terms(taught: Taught, seg: Config) -> None:
    model, reference = taught(CWD, MSE), plain(seg)
    for module in (*model.modules(), *reference.modules()):
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    batch = seg_batch(model)
    teacher = model.teachers["teacher"].model
    losses, expected = model(**batch, mode="loss"), reference(**seg_batch(reference), mode="loss")
    assert set(losses) == {*expected, "distill.loss_cwd", "distill.loss_mse"}
    for key, value in expected.items():
        assert torch.equal(losses[key], value), key
    model.eval(), reference.eval()
    raw = seg_batch_images(batch, model, teacher)
    with torch.no_grad():
        student, target = reference(batch["inputs"]), teacher(raw)
        expected_cwd = 3 * kdlosses.build({"type": "cwd", "tau": 4.0})(student, target)
        assert torch.allclose(model(**batch, mode="loss")["distill.loss_cwd"], expected_cwd, rtol=1e-3)


def seg_batch_images(batch: dict[str, Any], student: nn.Module, teacher: nn.Module) -> Tensor:
    """What the teacher's own preprocessor makes of the images behind a batch of the student's."""
    mine, its = student.data_preprocessor, teacher.data_preprocessor
    return ((batch["inputs"] * mine.std + mine.mean).flip(1) - its.mean) / its.std


def test_weight_zero_is_the_plain_student(taught: Taught, seg: Config) -> None:
    model, reference = taught({**CWD, "weight": 0.0}), plain(seg)
    batch = seg_batch(reference)
    torch.manual_seed(1)
    losses = model(**batch, mode="loss")
    torch.manual_seed(1)  # the same dropout: a teacher draws nothing
    expected = reference(**batch, mode="loss")
    assert losses["distill.loss_cwd"] == 0
    total, total_expected = model.parse_losses(losses)[0], reference.parse_losses(expected)[0]
    assert torch.allclose(total, total_expected, rtol=1e-6)
    total.backward()
    total_expected.backward()
    for (name, a), b in zip(reference.named_parameters(), model.parameters()):
        assert torch.allclose(a.grad, b.grad, atol=1e-6), name


def test_state_dict_is_the_plain_students_plus_connectors(taught: Taught, seg: Config) -> None:
    reference = plain(seg)
    assert list(taught(CWD).state_dict()) == list(reference.state_dict())
    model = taught(CWD, MSE)
    extra = [key for key in model.state_dict() if key not in reference.state_dict()]
    assert extra == ["distill.mse.adapt.0.project.weight", "distill.mse.adapt.0.project.bias"]
    assert {id(p) for p in model.parameters()}.isdisjoint({id(p) for p in model.teachers["teacher"].model.parameters()})
    load_state_dict(reference, model.state_dict())  # mmengine's, as a plain config would
    batch = seg_batch(model)
    model.eval(), reference.eval()
    assert torch.equal(model(**batch, mode="tensor"), reference(**batch, mode="tensor"))
    a, b = (
        each.val_step({"inputs": [torch.ones(3, 40, 50)], "data_samples": [sample()]}) for each in (model, reference)
    )
    assert torch.equal(a[0].pred_sem_seg.data, b[0].pred_sem_seg.data)


def sample() -> Any:
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo={"ori_shape": (40, 50), "img_shape": (40, 50)})


def test_the_students_class_and_names(taught: Taught) -> None:
    from mmseg.models import EncoderDecoder

    model = taught(CWD)
    assert isinstance(model, EncoderDecoder)
    assert isinstance(model, Distiller)
    assert model.decode_head.num_classes == 11
    assert type(model).__name__ == "DistilledEncoderDecoder"


def test_parameter_groups_by_name_and_connectors_in_the_optimiser(taught: Taught) -> None:
    model = taught(MSE)
    config = {
        "optimizer": {"type": "SGD", "lr": 0.1},
        "paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.1}}},
    }
    optimizer = build_optim_wrapper(model, config).optimizer
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model.backbone.layer1[0].conv1.weight)] == pytest.approx(0.01)
    assert rates[id(model.distill["mse"].adapt[0].project.weight)] == 0.1
    assert len(rates) == len(list(model.parameters()))


# --- the teacher is frozen --------------------------------------------------------------------------------------------


def test_teacher_does_not_change_and_everything_else_learns(taught: Taught) -> None:
    model = taught(CWD, MSE)
    teacher = model.teachers["teacher"].model
    before = copy.deepcopy(teacher.state_dict())
    mine = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(3):
        assert not any(module.training for module in teacher.modules())
        optimizer.zero_grad()
        model.parse_losses(model(**seg_batch(model), mode="loss"))[0].backward()
        optimizer.step()
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in teacher.parameters())
    for name, p in model.named_parameters():
        assert not torch.equal(p, mine[name]), name


def test_train_does_not_reach_the_teacher(taught: Taught) -> None:
    model = taught(CWD)
    teacher = model.teachers["teacher"].model
    teacher.train()
    model.train()
    assert not any(module.training for module in teacher.modules())
    assert model.training


def test_teacher_moves_with_the_student(taught: Taught) -> None:
    model = taught(CWD).to(torch.float64)
    assert next(model.teachers["teacher"].model.parameters()).dtype == torch.float64


def test_copies_share_the_teacher(taught: Taught) -> None:
    model = taught(CWD, MSE)
    average = ExponentialMovingAverage(model, momentum=0.5)
    assert average.module.teachers["teacher"] is model.teachers["teacher"]
    assert isinstance(average.module, Distiller)
    assert average.module.backbone is not model.backbone
    average.update_parameters(model)
    batch = seg_batch(model)
    assert torch.equal(average.module.eval()(**batch), model.eval()(**batch))


def test_perfect_student_loses_nothing(seg: Config) -> None:
    student = plain(seg)
    teacher = copy.deepcopy(student)
    entries = [{**CWD}, {"loss": "pkd", "student": "decode_head.bottleneck"}, {"loss": "kl", "student": CWD["student"]}]
    model = Distiller(student=student, teacher=teacher, distills=entries).eval()
    losses = model(**seg_batch(model), mode="loss")
    for name in ("cwd", "pkd", "kl"):
        assert abs(losses[f"distill.loss_{name}"].item()) < 1e-6


def test_ignored_pixels_do_not_matter(taught: Taught) -> None:
    model = taught({"loss": "kl", "student": "decode_head.conv_seg", "where": "labelled"}).eval()
    batch = seg_batch(model)
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])
    before = model(**batch, mode="loss")["distill.loss_kl"]
    head = model.teachers["teacher"].model.decode_head.conv_seg
    inner = head.forward

    def forward(x: Tensor) -> Tensor:  # another opinion where nobody looks
        logits = inner(x)
        ignored = labels[:, None, :: 64 // logits.shape[2], :: 64 // logits.shape[3]] == 255
        return torch.where(ignored, logits.flip(1), logits)

    head.forward = forward
    assert torch.allclose(model(**batch, mode="loss")["distill.loss_kl"], before)


def test_bf16_autocast(taught: Taught) -> None:
    model = taught(CWD, MSE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(**seg_batch(model), mode="loss")
    assert losses["distill.loss_cwd"].dtype == torch.float32
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)


# --- what entries can say ---------------------------------------------------------------------------------------------


def test_context_reaches_the_loss(taught: Taught) -> None:
    seen: dict[str, Any] = {}

    def nosy(student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        seen.update(labels=labels, weight=weight)
        return student.mean()

    model = taught({"loss": nosy, "student": "decode_head.conv_seg", "where": "labelled"})
    losses = model(**seg_batch(model), mode="loss")
    assert "distill.loss_nosy" in losses
    assert seen["labels"].shape == (2, 16, 16) or seen["labels"].shape == (2, 8, 8)
    assert torch.equal(seen["weight"], seen["labels"] != 255)


def test_boxes_reach_the_loss_at_each_level(det: Config, det_teacher: dict[str, str]) -> None:
    seen: list[Any] = []

    def nosy(student: Tensor, teacher: Tensor, boxes: list[Tensor], progress: float = 0.0) -> Tensor:
        seen.append((student.shape[-1], boxes[0]))
        return (student - teacher).square().mean()

    model = Distiller(student=det, **det_teacher, distills=[{"loss": nosy, "student": "neck"}])
    losses = model(**det_batch(model), mode="loss")
    assert [size for size, _ in seen] == [12, 6, 3, 2, 1]
    assert torch.allclose(seen[0][1][0], torch.tensor([1.0, 1.0, 5.0, 5.0]))
    assert losses["distill.loss_nosy"].requires_grad


def test_several_teachers(seg: Config, seg_teacher: dict[str, str], taught: Taught) -> None:
    entries = [{**CWD, "source": "big", "name": "big"}, {**CWD, "source": "own", "name": "own"}]
    model = taught(
        *entries,
        teacher={"big": seg_teacher["teacher"], "own": "ema"},
        checkpoint={"big": seg_teacher["checkpoint"]},
        momentum=0.5,
    )
    losses = model(**seg_batch(model), mode="loss")
    assert losses["distill.loss_big"] > 0
    assert model.teachers["own"].steps == 1
    with pytest.raises(ValueError, match="source must name a teacher, one of big, own; got None"):
        taught(CWD, teacher={"big": seg_teacher["teacher"], "own": "ema"})


def test_a_teacher_that_nobody_asks_is_an_error(taught: Taught, seg_teacher: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no distills entry uses teacher 'own'"):
        taught({**CWD, "source": "big"}, teacher={"big": seg_teacher["teacher"], "own": "ema"})
    with pytest.raises(ValueError, match="no distills entry uses teacher 'teacher'"):
        taught(distills=[])


def test_self_distillation(taught: Taught) -> None:
    model = taught(CWD, teacher="ema", checkpoint=None, momentum=0.5)
    assert not isinstance(model.teachers["teacher"].model, Distiller)
    model.eval()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        losses = model(**seg_batch(model), mode="loss")
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        assert model.teachers["teacher"].steps == step + 1
    model.eval()
    model(**seg_batch(model), mode="loss")
    assert model.teachers["teacher"].steps == 2  # nothing moves in evaluation


def test_a_live_student_becomes_the_distiller_and_can_be_taught_anew(seg: Config, seg_teacher: dict[str, str]) -> None:
    student = plain(seg)
    with pytest.raises(KeyError):
        Distiller(student=student, **seg_teacher, distills=[{**CWD, "student": "decode_head.logits"}])
    first = Distiller(student=student, **seg_teacher, distills=[MSE])
    assert first is student
    second = Distiller(student=student, **seg_teacher, distills=[CWD])
    assert second is student
    assert list(second.state_dict()) == list(plain(seg).state_dict())


def test_built_from_a_config_without_imports(seg: Config, seg_teacher: dict[str, str]) -> None:
    preprocessor = seg.model.pop("data_preprocessor")
    config = {"type": "densekd.Distiller", "student": seg.model, **seg_teacher, "method": "cwd"}
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build({**config, "data_preprocessor": preprocessor})  # as mmengine's Runner hands it in
    assert model.data_preprocessor.size == (64, 64)
    assert list(model.distill) == ["cwd"]


# --- bad input: an error before training, that says what would be right -----------------------------------------------

BAD_ENTRIES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "wrong tap": ({"student": "decode_head.conv_sag"}, KeyError, "nearest: decode_head.conv_seg, "),
    "wrong tap of the teacher": (
        {"teacher": "decode_head.seg"},
        KeyError,
        "no module 'decode_head.seg'; nearest: ",
    ),
    "tap that never fires": ({"student": "auxiliary_head.conv_seg"}, RuntimeError, "never fired"),
    "tap overwritten in place": ({"student": "decode_head.bottleneck.bn"}, RuntimeError, "overwritten in place"),
    "no such item": ({"student": "backbone:4"}, IndexError, "no item 4, the module yields 4 items"),
    "typo in an entry": ({"wieght": 1.0}, TypeError, "no key 'wieght', did you mean 'weight'"),
    "no such loss": ({"loss": "cwdd"}, KeyError, "no loss is called 'cwdd'; did you mean 'cwd'"),
    "typo in a loss": ({"loss": {"type": "cwd", "temperature": 2}}, TypeError, "no option 'temperature'; known: tau"),
    "weight as text": ({"weight": "3"}, TypeError, "weight must be a finite number, or 'auto', got '3'"),
    "no such adapt": ({"adapt": "conv3x3"}, ValueError, "adapt must be one of"),
    "no such place": ({"where": "edges"}, ValueError, "where must be one of"),
    "name with a dot": ({"name": "a.b"}, ValueError, "must not contain a dot"),
    "unknown teacher": ({"source": "big"}, ValueError, "one of teacher; got 'big'"),
    "levels": ({"student": "backbone", "teacher": "backbone:0"}, ValueError, "yields 4 tensors, the teacher's 1"),
    "channels": ({"student": "backbone:0", "adapt": "none"}, ValueError, r"'cwd' \(backbone:0 <- .*cannot be aligned"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_bad_entry(taught: Taught, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        taught({**CWD, **change})


def test_entries_must_not_clash(taught: Taught) -> None:
    with pytest.raises(ValueError, match="two distills entries are called 'cwd'; give them a name"):
        taught(CWD, CWD)
    assert list(taught(CWD, {**CWD, "name": "again"}).distill) == ["cwd", "again"]


def test_loss_keys_must_not_clash(taught: Taught) -> None:
    model = taught(CWD)
    inner = model.decode_head.loss
    model.decode_head.loss = lambda *args: {**inner(*args), "x": torch.zeros(())}
    model(**seg_batch(model), mode="loss")
    model.loss = lambda *args: {"distill.loss_cwd": torch.zeros((), requires_grad=True)}
    with pytest.raises((KeyError, RuntimeError), match=r"a loss 'distill\.loss_cwd' of its own|never fired"):
        model(**seg_batch(model), mode="loss")


def test_either_entries_or_a_method(taught: Taught) -> None:
    with pytest.raises(ValueError, match=r"either distills=\[...\] or method"):
        taught()
    with pytest.raises(ValueError, match=r"either distills=\[...\] or method"):
        taught(CWD, method="cwd")
    with pytest.raises(KeyError, match="no method is called 'cwdd'; did you mean 'cwd'"):
        taught(method="cwdd")


def test_no_student_teaches_itself_directly(seg: Config) -> None:
    student = plain(seg)
    with pytest.raises(ValueError, match="is the student itself; write 'ema'"):
        Distiller(student=student, teacher=student, distills=[CWD])


def test_other_classes_are_not_guessed(seg: Config, seg_teacher: dict[str, str]) -> None:
    seg.model.decode_head.num_classes = 5
    seg.model.auxiliary_head.num_classes = 5
    with pytest.raises(ValueError, match="the student has 5 classes, the teacher 11"):
        Distiller(student=seg, **seg_teacher, distills=[CWD])


def test_a_class_map_says_which_class_stands_for_which(seg: Config, seg_teacher: dict[str, str]) -> None:
    seg.model.decode_head.num_classes = seg.model.auxiliary_head.num_classes = 3
    entry = {"loss": "kl", "student": "decode_head.conv_seg", "class_map": [4, 0, 0]}
    model = Distiller(student=seg, **seg_teacher, distills=[entry]).eval()
    batch = seg_batch(model)
    for sample in batch["data_samples"]:
        sample.gt_sem_seg.data = sample.gt_sem_seg.data.clamp(max=2)
    value = model(**batch, mode="loss")["distill.loss_kl"]
    teacher = model.teachers["teacher"].model
    with torch.no_grad():
        theirs = teacher(model.teachers["teacher"]._renormalise(batch["inputs"], batch["data_samples"]))
        expected = kdlosses.build("kl")(model(batch["inputs"]), theirs[:, [4, 0, 0]])
    torch.testing.assert_close(value, expected)
    with pytest.raises(ValueError, match="class_map must hold classes from 0 to 10, got \\[4, 0, 11\\]"):
        Distiller(student=seg, **seg_teacher, distills=[{**entry, "class_map": [4, 0, 11]}])


def test_a_loss_is_told_its_channels(taught: Taught) -> None:
    entry = {"loss": "dmae", "student": "decode_head.bottleneck"}
    model = taught(entry, {**entry, "loss": dict(type="dmae", teacher_channels=5), "name": "own", "weight": 0.0})
    assert model.distill["dmae"].loss.loss.projection.weight.shape[:2] == (32, 16)
    assert model.distill["own"].loss.loss.projection.weight.shape[:2] == (5, 16)
    assert torch.isfinite(model(**seg_batch(model), mode="loss")["distill.loss_dmae"])
    with pytest.raises(ValueError, match="built for one number of channels"):
        taught({"loss": "dmae", "student": "backbone"})


def test_teacher_with_nan_is_named_with_its_tap(seg: Config, seg_teacher: dict[str, str]) -> None:
    broken, _ = build_model(seg_teacher["teacher"])
    with torch.no_grad():
        broken.backbone.layer1[0].conv1.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"'teacher' yields NaN or infinity at tap 'decode_head\.conv_seg'"):
        Distiller(student=seg, teacher=broken, distills=[CWD])


def test_nan_that_comes_later_is_found(taught: Taught) -> None:
    model = taught(CWD)
    with torch.no_grad():
        model.teachers["teacher"].model.decode_head.conv_seg.bias.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"at tap 'decode_head\.conv_seg'"):
        model(**seg_batch(model), mode="loss")


def test_frozen_tap_cannot_teach(taught: Taught) -> None:
    model = taught({"loss": "mse", "student": "backbone:0"})
    model.backbone.requires_grad_(False)
    with pytest.raises(RuntimeError, match="'mse' has no effect: tap 'backbone:0' carries no gradient"):
        model(**seg_batch(model), mode="loss")


def test_labels_out_of_range_are_named(taught: Taught) -> None:
    model = taught(CWD)
    batch = seg_batch(model)
    batch["data_samples"][0].gt_sem_seg.data[0, 30, 30] = 12
    with pytest.raises(ValueError, match=r"labels \[12\] .* the student has classes 0 to 10 and 255 to ignore"):
        model(**batch, mode="loss")
