"""Heads of entries and output layers in OpenMMLab's models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract.entry import MethodContract
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage, revert_sync_batchnorm

import kdlosses
from densekd import Distillation, Distiller, build_model
from densekd.mmlab.config import control
from densekd.taps.reader import Taps
from kdlosses.outputs import with_output

from .conftest import CONFIGS, TinySegmenter, seg_batch
from .methods.teaching import gap, scenes_of_pixels

TAP = "decode_head.conv_seg"
BRANCH = {"loss": "ofa", "student": "backbone", "teacher": TAP, "head": {"type": "branch", "label_loss": 0.1}}


def pspnet_of(output: str | dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    student = revert_sync_batchnorm(build_model(dict(type="densekd.WithOutput", of=config().model, output=output))[0])
    torch.manual_seed(1)
    teacher = revert_sync_batchnorm(build_model(CONFIGS / "seg_teacher.py")[0])
    return {"scope": "mmseg", "student": student, "teacher": teacher, "batch": seg_batch}


def config() -> Config:
    found = Config.fromfile(CONFIGS / "seg.py")
    found.model._scope_ = "mmseg"
    return found


CONTRACT = [
    MethodContract(
        "dho",
        models=lambda: pspnet_of("two_heads"),
        no_fixed_point={"kl": "a twin predicts by both of its heads, and the second alone learns of it"},
    ),
    MethodContract("kd3", models=lambda: pspnet_of(dict(type="shared", wide=32)), options={"kappa": 0.0}),
    MethodContract("lelp", models=lambda: pspnet_of("subclasses"), options={"fit_steps": 1}),
]


def test_a_head_on_each_stage_is_trained_kept_in_checkpoints_and_no_part_of_the_student() -> None:
    torch.manual_seed(0)
    student, teacher = TinySegmenter(channels=11, classes=11), TinySegmenter(width=6, channels=11, classes=11)
    plain = list(student.state_dict())
    model = Distiller(student=student, teacher=teacher, distills=[BRANCH])
    extra = [key for key in model.state_dict() if key not in plain]
    assert extra
    assert all(key.startswith("distill.ofa.heads.0.") for key in extra)
    averaged = ExponentialMovingAverage(model)
    batch = seg_batch(model, size=16)
    model(**batch, mode="loss")["distill.loss_ofa"].backward()
    assert all(p.grad is not None for p in model.distill.parameters())
    averaged.update_parameters(model)
    torch.manual_seed(3)
    other = Distiller(student=TinySegmenter(channels=11, classes=11), teacher=teacher, distills=[BRANCH])
    other.load_state_dict(model.state_dict())
    one, two = (each.eval()(**batch, mode="loss")["distill.loss_ofa"] for each in (model, other))
    torch.testing.assert_close(one, two)
    with Taps(model, ["backbone", TAP]) as mine, Taps(teacher, [TAP]) as its:
        model(batch["inputs"]), teacher(batch["inputs"])
    logits = F.interpolate(model.distill["ofa"].heads[0](mine["backbone"][0]), its[TAP][0].shape[2:], mode="bilinear")
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])[:, ::2, ::2]
    expected = kdlosses.ofa(logits, its[TAP][0], labels=labels) + 0.1 * F.cross_entropy(
        logits, labels, ignore_index=255
    )
    torch.testing.assert_close(one, expected)


def test_a_head_on_an_online_teacher_learns_from_the_student() -> None:
    torch.manual_seed(0)
    teacher = TinySegmenter(width=6, channels=11, classes=11)
    entry = {"loss": "kl", "student": TAP, "teacher": "backbone", "head": "linear", "back": True}
    model = Distiller(
        student=TinySegmenter(channels=11, classes=11), teacher=teacher, distills=[entry], online=["teacher"]
    )
    model(**seg_batch(model, size=16), mode="loss")["distill.loss_kl"].backward()
    assert teacher.backbone.stem.weight.grad.abs().sum() > 0
    assert model.distill["kl"].heads[0].weight.shape == (11, 6)
    assert model.backbone.stem.weight.grad is None


def test_a_student_with_two_heads_is_trained_saved_and_exported_with_both(seg_teacher: dict[str, str]) -> None:
    torch.manual_seed(0)
    student = dict(type="densekd.WithOutput", of=config().model, output=dict(type="two_heads", share=0.3))
    whole = Config(dict(model=dict(type="densekd.Distiller", student=student, method="dho", **seg_teacher)))
    model = revert_sync_batchnorm(Distiller(**{key: each for key, each in whole.model.items() if key != "type"}))
    batch = seg_batch(model)
    losses = model(**batch, mode="loss")
    (gradient,) = torch.autograd.grad(losses["distill.loss_kl"], model.decode_head.conv_seg.second.weight)
    assert gradient.abs().sum() > 0
    plain = revert_sync_batchnorm(build_model(control(whole))[0])  # what densekd export builds
    plain.load_state_dict(model.state_dict())
    with Taps(plain.eval(), [f"{TAP}.layer", f"{TAP}.second"]) as taps, torch.no_grad():
        found = plain(batch["inputs"])
    first, second = (taps[f"{TAP}.{name}"][0] for name in ("layer", "second"))
    expected = 0.3 * first.softmax(1) + 0.7 * (second / 0.5).softmax(1)
    torch.testing.assert_close(found.exp(), expected)


def test_both_of_two_heads_may_be_of_one_sigmoid() -> None:
    torch.manual_seed(0)
    student, teacher = with_output(TinySegmenter(), TAP, "two_heads"), TinySegmenter(width=6)
    model = Distiller(student=student, teacher=teacher, method=dict(type="dho", tau=1.0)).eval()
    batch = seg_batch(model, size=16)
    for sample in batch["data_samples"]:
        sample.gt_sem_seg.data %= 2
    value = model(**batch, mode="loss")["distill.loss_kl"]
    with Taps(model, [f"{TAP}.second"]) as mine, Taps(teacher, [TAP]) as its:
        mixed, _ = model(batch["inputs"]), teacher(batch["inputs"])
    z, t = mine[f"{TAP}.second"][0], its[TAP][0]
    both = [torch.cat([torch.zeros_like(each), each], 1) for each in (z, t)]
    torch.testing.assert_close(value, kdlosses.kl(*both))
    assert mixed.shape == z.shape


@pytest.mark.parametrize("method", ["dho", "kd3", "lelp"])
def test_a_student_without_the_output_layer_is_told_how_to_get_it(method: str, seg: Config) -> None:
    with pytest.raises(ValueError, match=f"method '{method}' needs a student whose last layer .*densekd.WithOutput"):
        Distiller(student=seg, teacher="ema", method=method)


@pytest.mark.parametrize(("method", "output", "loss"), [("dho", "two_heads", "kl"), ("lelp", "subclasses", "lelp")])
def test_classes_of_weight_0_teach_nothing(method: str, output: str, loss: str) -> None:
    def value(**options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        student = with_output(TinySegmenter(channels=11, classes=11), TAP, output)
        if method == "lelp":
            options["fit_steps"] = 1
        teacher = TinySegmenter(width=24, channels=11, classes=11)
        model = Distiller(student=student, teacher=teacher, method=dict(type=method, **options))
        batch = seg_batch(model, size=16)
        for sample in batch["data_samples"]:
            sample.gt_sem_seg.data[..., ::2] = 3
        model(**batch, mode="loss")  # fits the subclasses
        return model(**batch, mode="loss")[f"distill.loss_{loss}"].detach()

    plain = value()
    torch.testing.assert_close(value(class_weight=[1.0] * 11), plain)
    assert not torch.isclose(value(class_weight=[0.0 if c == 3 else 1.0 for c in range(11)]), plain, rtol=1e-3)


def test_the_student_learns_through_its_second_head() -> None:
    """On unseen scenes the taught student costs less than one whose head alone learns on its features: the control."""
    pair = CONFIGS / "seg.py", CONFIGS / "seg_teacher.py"
    taught, control = (gap(*pair, "dual_head", scenes_of_pixels, taught=taught) for taught in (True, False))
    assert taught < 0.95 * control


def test_a_head_of_other_classes_than_the_teacher_is_named() -> None:
    nets = [torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 5, 1)) for _ in range(2)]
    entry = dict(loss="ofa", student="0", teacher="1", head=dict(type="linear", classes=3))
    with pytest.raises(ValueError, match=r"head=dict\(classes=3\) makes 3 logits, and the tap of the teacher yields 5"):
        Distillation(*nets, [entry], example=torch.randn(1, 3, 4, 4), classes=5)
