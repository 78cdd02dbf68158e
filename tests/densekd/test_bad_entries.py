"""Entries that cannot be meant so are refused before the training starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densekd import Distiller
from densekd.term import Term

from .conftest import TinySegmenter, seg_batch

TAP = "decode_head.conv_seg"


def model(*entries: dict[str, Any], teacher: Any = None, channels: int = 5, **options: Any) -> Distiller:
    torch.manual_seed(0)
    student = TinySegmenter(channels=3, classes=3)
    teacher = TinySegmenter(width=6, channels=channels, classes=channels) if teacher is None else teacher
    return Distiller(student=student, teacher=teacher, distills=list(entries), **options)


MAPS: list[Any] = [[0.0, 1.0, 2.0], [0, 1, True], [0, -1, 2], ["0", "1", "2"], [], "012", 3, [0, 1, None]]


@pytest.mark.parametrize("class_map", MAPS, ids=str)
def test_classes_are_whole_numbers(class_map: Any) -> None:
    with pytest.raises(ValueError, match=r"class_map must list a class of the teacher, an integer from 0 on"):
        model({"loss": "kl", "student": TAP, "class_map": class_map})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_map": [0, 1]}, "the student has 3 classes, but class_map has 2 entries"),
        ({"class_map": [0, 1, 2, 3]}, "the student has 3 classes, but class_map has 4 entries"),
        ({"class_map": [0, 1, 5]}, "class_map must hold classes from 0 to 4"),
        ({"class_map": [0, 1, 2], "teacher": "backbone"}, "yields a feature of 6 channels"),
        ({"class_map": [0, 1, 2], "teacher": f"{TAP}:in"}, "yields a feature of 6 channels"),
        ({"class_map": [0, 1, 2], "teacher": "decode_head.convs.0"}, "yields a feature of 6 channels"),
    ],
    ids=str,
)
def test_the_map_has_a_class_for_each_and_is_of_logits(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model({"loss": "kl", "student": TAP, **change})


@pytest.mark.parametrize(
    "class_map", [[0, 0, 4], np.array([0, 0, 4]), (np.int64(0), 0, 4)], ids=["list", "array", "np"]
)
def test_one_class_may_stand_for_several(class_map: Any) -> None:
    assert model({"loss": "kl", "student": TAP, "class_map": class_map}).distill["kl"].class_map == [0, 0, 4]


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        *((weight, ValueError) for weight in (-1.0, np.float32(-0.5))),
        *((weight, TypeError) for weight in (float("nan"), float("inf"), True, np.bool_(True), "1", None, [1.0])),
    ],
    ids=str,
)
def test_weights_are_numbers_of_at_least_0(weight: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="'mse': weight must be"):
        Term(loss="mse", student="backbone", weight=weight)


@pytest.mark.parametrize("weight", [0, 2, np.float32(0.5), np.int64(3)])
def test_numbers_of_numpy_are_numbers(weight: Any) -> None:
    assert Term(loss="mse", student="backbone", weight=weight).weight == float(weight)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"back": 1}, TypeError, "back must be True or False"),
        ({"student": 3}, TypeError, "the tap of the student must be a string"),
        ({"teacher": [3]}, TypeError, "the tap of the teacher must be a string"),
        ({"adapt": "conv"}, ValueError, "adapt must be one of"),
        ({"where": "everywhere"}, ValueError, "where must be one of"),
        ({"wieght": 1.0}, TypeError, "did you mean 'weight'"),
        ({"name": "a.b"}, ValueError, "must not contain a dot"),
    ],
    ids=str,
)
def test_other_keys(entry: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Term.parse({"loss": "mse", "student": "backbone", **entry})


def test_positions_are_those_of_a_map() -> None:
    student, teacher = Rows(), Rows()
    Distiller(student=student, teacher=teacher, distills=[{"loss": "mse", "student": "pool"}])
    with pytest.raises(ValueError, match=r"where='labelled' chooses positions of a map .* yields \(1, 4\)"):
        Distiller(student=student, teacher=teacher, distills=[{"loss": "mse", "student": "pool", "where": "labelled"}])


class Rows(TinySegmenter):
    def __init__(self) -> None:
        super().__init__(channels=3, classes=3)
        self.pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    def forward(self, inputs: torch.Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        self.pool(self.backbone(inputs)[0])
        return super().forward(inputs, data_samples, mode)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan"), True, "0.9", None], ids=str)
def test_momentum(momentum: Any) -> None:
    with pytest.raises(ValueError, match=r"momentum.* must be a number in \[0, 1\)"):
        model({"loss": "mse", "student": "backbone"}, teacher="ema", momentum=momentum)


def test_checkpoints_are_of_teachers_that_there_are() -> None:
    with pytest.raises(ValueError, match="checkpoint names the teacher 'techer'; there is 'teacher'"):
        model({"loss": "mse", "student": "backbone"}, checkpoint={"techer": "a.pth"})


def test_a_teacher_of_weight_0_does_not_run_and_masked_positions_are_not_read() -> None:
    taught = model({"loss": "mse", "student": "backbone", "weight": 0.0})
    calls: list[int] = []
    taught.teachers["teacher"].model.backbone.register_forward_hook(lambda *args: calls.append(1))
    found = seg_batch(taught, size=16)
    for sample in found["data_samples"]:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data != 255] %= 3
    assert taught(**found, mode="loss")["distill.loss_mse"] == 0
    assert not calls


def test_what_a_teacher_says_of_masked_positions_is_not_read() -> None:
    taught = model({"loss": "mse", "student": "backbone.stem", "where": "labelled"}, channels=3)
    found = seg_batch(taught, size=16)
    for sample in found["data_samples"]:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data != 255] %= 3
    expected = taught(**found, mode="loss")["distill.loss_mse"]

    def spoil(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, :, :4] = float("nan")  # rows 0 to 7 of the image, whose label is ignored
        return output

    hook = taught.teachers["teacher"].model.backbone.stem.register_forward_hook(spoil)
    value = taught(**found, mode="loss")["distill.loss_mse"]
    hook.remove()
    value.backward()
    assert expected > 0
    torch.testing.assert_close(value, expected)
    assert torch.isfinite(taught.backbone.stem.weight.grad).all()


def test_levels_are_summed() -> None:
    student = TinySegmenter(channels=3, classes=3).eval()
    both = {"loss": "mse", "student": "backbone.stem+backbone.narrow", "weight": 2.0, "name": "both"}
    each = [{"loss": "mse", "student": f"backbone.{name}", "name": name} for name in ("stem", "narrow")]
    teacher = TinySegmenter(channels=3, classes=3).eval()
    taught = Distiller(student=student, teacher=teacher, distills=[both, *each]).eval()
    found = seg_batch(taught, size=16)
    for sample in found["data_samples"]:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data != 255] %= 3
    losses = {key.removeprefix("distill.loss_"): value for key, value in taught(**found, mode="loss").items()}
    assert min(losses["stem"], losses["narrow"]) > 0
    torch.testing.assert_close(losses["both"], 2 * (losses["stem"] + losses["narrow"]))


RESULTS = {
    "a map": (
        lambda student, teacher: (student - teacher).square(),
        TypeError,
        r"one number as a tensor.*\(2, 3, 32, 32\)",
    ),
    "a float": (lambda student, teacher: 1.0, TypeError, "one number as a tensor.*got float"),
    "nothing": (lambda student, teacher: None, TypeError, "one number as a tensor.*got NoneType"),
    "a constant": (lambda student, teacher: (student - teacher).detach().mean(), RuntimeError, "carries no gradient"),
}


@pytest.mark.parametrize(("loss", "error", "message"), RESULTS.values(), ids=RESULTS)
def test_what_a_loss_of_ones_own_returns(loss: Any, error: type[Exception], message: str) -> None:
    taught = model({"loss": loss, "student": TAP, "name": "mine"}, channels=3)
    with pytest.raises(error, match=message):
        taught(**few_classes(taught), mode="loss")


def few_classes(taught: Distiller) -> dict[str, Any]:
    found = seg_batch(taught, size=64)
    for sample in found["data_samples"]:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data != 255] %= 3
    return found


@pytest.mark.parametrize("unsafe", ["no", 0, None], ids=str)
def test_unsafe_is_true_or_false(unsafe: Any) -> None:
    with pytest.raises(TypeError, match="unsafe must be True or False"):
        model({"loss": "kl", "student": TAP}, channels=3, unsafe=unsafe)


def test_arguments_that_the_distiller_does_not_have() -> None:
    with pytest.raises(TypeError, match=r"densekd.Distiller has no argument 'methods'; did you mean 'method'"):
        Distiller(student=TinySegmenter(), teacher=TinySegmenter(), methods="kl")  # type: ignore[call-arg]


def test_no_teacher_at_all() -> None:
    with pytest.raises(ValueError, match=r"teacher=\{\} names no teacher"):
        model({"loss": "kl", "student": TAP}, teacher={})


def of_channels(images: int, mean: list[float] | None = None) -> TinySegmenter:
    from mmseg.models import SegDataPreProcessor

    found = TinySegmenter(channels=3, classes=3)
    found.data_preprocessor = SegDataPreProcessor(mean=mean, std=mean, size_divisor=4)
    found.backbone.stem = torch.nn.Conv2d(images, 4, 3, stride=2, padding=1)
    return found


@pytest.mark.parametrize(("mine", "its"), [(4, 3), (6, 3), (3, 1), (3, 4), (1, 4)])
@pytest.mark.parametrize("mean", [None, [50.0] * 3])
def test_a_teacher_of_images_of_other_channels(mine: int, its: int, mean: list[float] | None) -> None:
    student, teacher = of_channels(mine), of_channels(its, mean if its == 3 else None)
    with pytest.raises(
        ValueError, match=f"the student's images have {mine} channels, those of teacher 'teacher' {its}"
    ):
        Distiller(student=student, teacher=teacher, distills=[{"loss": "kl", "student": TAP}])


def test_a_teacher_of_colours_for_grey_images() -> None:
    """Its normalisation by channel makes three of one."""
    entries = [{"loss": "mse", "student": "backbone"}]
    teacher = of_channels(3, [50.0] * 3)
    taught = Distiller(student=of_channels(1), teacher=teacher, distills=entries)
    with torch.no_grad():
        for model in (taught, taught.teachers["teacher"].model):
            model.backbone.stem.weight.fill_(1.0)
            model.backbone.stem.bias.zero_()
            model.backbone.narrow.weight.zero_()
            model.backbone.narrow.bias.zero_()
    grey = torch.full((1, 1, 16, 16), 150.0)
    found = taught.teachers["teacher"].run(grey, None, ["backbone"])["backbone"][0]
    assert found[0, 0, 4, 4].item() == pytest.approx(9 * 3 * 2.0)  # (150 - 50) / 50 in each of three channels


def test_names_of_teachers_are_text() -> None:
    with pytest.raises(TypeError, match="the names of several teachers must be strings, got 0"):
        model({"loss": "kl", "student": TAP}, teacher={0: TinySegmenter(channels=3, classes=3)})


@pytest.mark.parametrize(
    ("teacher", "checkpoint", "said"),
    [
        (("one", "two"), "weights.pth", "'weights.pth' is of one teacher, and there are one, two"),
        (("ema",), "weights.pth", "'teacher' has the student's own weights: it takes no checkpoint"),
        (("one", "ema"), {"ema": "weights.pth"}, "'ema' has the student's own weights"),
    ],
)
def test_weights_of_one_teacher_go_to_no_other(teacher: tuple[str, ...], checkpoint: Any, said: str) -> None:
    made = {name: "ema" if name == "ema" else TinySegmenter(channels=3, classes=3) for name in teacher}
    with pytest.raises(ValueError, match=said):
        Distiller(
            student=TinySegmenter(channels=3, classes=3),
            teacher=made if len(made) > 1 else made["ema"],
            checkpoint=checkpoint,
            distills=[{"loss": "kl", "student": TAP, "source": teacher[0] if len(teacher) > 1 else "teacher"}],
        )
