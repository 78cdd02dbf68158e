"""The ground truth as a source of an entry."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import densekd
import kdlosses

from .conftest import TinySegmenter, seg_batch

CLASSES = 4
IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(CLASSES, (2, 6, 6), generator=torch.Generator().manual_seed(1))
LABELS[:, 0] = 255


class Net(nn.Sequential):
    def __init__(self, width: int = 5, classes: int = CLASSES) -> None:
        super().__init__()
        self.add_module("body", nn.Conv2d(3, width, 1))
        self.add_module("head", nn.Conv2d(width, classes, 1))


def taught(*entries: dict[str, Any], teacher: Any = None, classes: int = CLASSES, **options: Any) -> Any:
    torch.manual_seed(0)
    student, teacher = Net(classes=classes), Net(7, classes) if teacher is None else teacher
    every = [*entries, dict(loss="mse", student="body", weight=0.0, name="beside")] if len(entries) == 1 else entries
    if isinstance(teacher, dict):
        every = list(entries)
    return densekd.Distillation(student, teacher, every, example=IMAGES, **options)


def value_of(model: Any, name: str, labels: Tensor = LABELS, **context: Any) -> Tensor:
    return model(IMAGES, context=dict(labels=labels, **context))[1][name]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_kl_to_the_truth_is_cross_entropy(smoothing: float) -> None:
    """In value up to the entropy of the smoothed labels, and in its gradient; ignored pixels count in neither."""
    model = taught(dict(loss="kl", student="head", source="truth", smoothing=smoothing))
    value = value_of(model, "kl")
    mine = torch.autograd.grad(value, list(model.student.parameters()))
    p = np.full(CLASSES, smoothing / CLASSES) + (1 - smoothing) * np.eye(CLASSES)[0]
    entropy = -sum(each * np.log(each) for each in p if each)
    task = F.cross_entropy(model.student(IMAGES), LABELS, ignore_index=255, label_smoothing=smoothing)
    np.testing.assert_allclose(value.item(), task.item() - entropy, rtol=1e-4)
    for ours, its in zip(mine, torch.autograd.grad(task, list(model.student.parameters()))):
        torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-6)


def test_labels_of_another_size_are_taken_by_nearest() -> None:
    model = taught(dict(loss="kl", student="head", source="truth"))
    large = LABELS.repeat_interleave(3, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(value_of(model, "kl", large), value_of(model, "kl"))


def test_the_distiller_of_openmmlab_reads_the_label_maps_of_the_samples() -> None:
    torch.manual_seed(0)
    student, teacher = (TinySegmenter(width, channels=11, classes=11) for width in (4, 6))
    tap = "decode_head.conv_seg"
    entries = [dict(loss="kl", student=tap, source="truth"), dict(loss="mse", student=tap)]
    model = densekd.Distiller(student=student, teacher=teacher, distills=entries).eval()
    batch = seg_batch(model)
    value = model(**batch, mode="loss")["distill.loss_kl"]
    logits = model(batch["inputs"])
    maps = torch.stack([sample.gt_sem_seg.data for sample in batch["data_samples"]]).float()
    labels = F.interpolate(maps, size=logits.shape[2:], mode="nearest")[:, 0].long()
    torch.testing.assert_close(value, F.cross_entropy(logits, labels, ignore_index=255), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no teacher may be called 'truth'"):
        densekd.Distiller(student=student, teacher={"truth": teacher}, distills=entries)


def test_truth_and_teacher_are_averaged() -> None:
    model = taught(dict(loss="average", student="head", source=["teacher", "truth"]))
    value = value_of(model, "average").item()
    with torch.no_grad():
        q, p = (net(IMAGES).double().softmax(1).numpy() for net in (model.student, model.teachers["teacher"].model))
    known = (LABELS != 255).numpy()
    mean = (p + np.moveaxis(np.eye(CLASSES)[LABELS.numpy() * known], -1, 1)) / 2
    expected = (mean * np.log(mean / q)).sum(1)[known].mean()
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_one_sigmoid_learns_from_two_labels() -> None:
    labels = LABELS.where(LABELS == 255, LABELS % 2)
    entries = [dict(loss=name, student="head", source="truth") for name in ("kl", "binary_kl")]
    model = taught(*entries, dict(loss="mse", student="body"), classes=1)
    known = labels != 255
    task = F.binary_cross_entropy_with_logits(model.student(IMAGES)[:, 0][known], labels[known].float())
    for name in ("kl", "binary_kl"):
        torch.testing.assert_close(value_of(model, name, labels), task, rtol=1e-4, atol=1e-6)


def test_a_loss_of_values_gets_the_targets_themselves() -> None:
    model = taught(dict(loss="mse", student="head", source="truth"), classes=CLASSES)
    known = LABELS != 255
    error = model.student(IMAGES).movedim(1, -1)[known] - F.one_hot(LABELS[known], CLASSES)
    torch.testing.assert_close(value_of(model, "mse"), error.square().mean())


class Landmarks(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.points = nn.Linear(3 * 36, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.points(images.flatten(1))


def test_landmarks_with_a_tough_and_a_tolerant_teacher() -> None:
    """The truth is the first of the sources, and the loss is told so; a face without landmarks does not count."""
    teachers = {"tough": Landmarks(1), "tolerant": Landmarks(2)}
    entry = dict(loss="assistive", student="points", source=["truth", *teachers])
    model = densekd.Distillation(Landmarks(0), teachers, [entry], example=IMAGES)
    targets = torch.randn(2, 6)
    targets[1, 3] = torch.nan
    value = model(IMAGES, context=dict(targets=targets))[1]["assistive"]
    stacked = torch.cat([targets, *(net(IMAGES) for net in teachers.values())], 1)[:1]
    torch.testing.assert_close(value, kdlosses.assistive(model.student(IMAGES)[:1], stacked, "first"))
    value.backward()
    assert model.student.points.weight.grad.abs().sum() > 0


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "head": (dict(head="linear"), "a head has no meaning where a source is 'truth'"),
    "features": (dict(student="body"), r"a value for each of 4 classes, but tap 'body' yields 5 channels"),
    "input": (dict(student="head:in"), r"'head:in' yields features"),
    "class map": (dict(class_map=[0, 1, 2, 3]), "class_map has no meaning where a source is 'truth'"),
    "learned": (dict(adapt="conv1x1"), "adapt='conv1x1' has no meaning where"),
    "tap": (dict(teacher="head"), "'truth' has no tap"),
    "no weight": (dict(loss="attention_rows"), "takes no weight of positions"),
    "infinite": (dict(loss="rkl"), "no finite value where a class is certain"),
    "one teacher": (dict(source=["truth", "teacher"]), "its loss takes one teacher, but source names 2"),
    "not first": (dict(loss="assistive", source=["teacher", "truth"]), "its loss takes 'truth' first, got source="),
    "told wrong": (
        dict(loss=dict(type="assistive", truth="first"), source=["teacher", "truth"]),
        "its loss takes 'truth' first, got source=",
    ),
    "twice": (dict(loss="average", source=["truth", "teacher", "truth"]), "source names 'truth' twice"),
    "smoothing": (dict(source=None, smoothing=0.1), "its source is not 'truth'"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_has_no_meaning_is_named_before_training(change: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        taught({**dict(loss="kl", student="head", source="truth"), **change})


def test_the_name_is_reserved() -> None:
    with pytest.raises(ValueError, match="no teacher may be called 'truth'"):
        taught(dict(loss="kl", student="head", source="truth"), teacher={"truth": Net(7)})


def test_labels_that_never_count_are_told_once(recwarn: pytest.WarningsRecorder) -> None:
    for ignored, warned in ((9, 0), (10, 1)):
        model = taught(dict(loss="kl", student="head", source="truth"))
        for _ in range(ignored):
            assert value_of(model, "kl", torch.full_like(LABELS, 255)) == 0
        for _ in range(15):  # once there was one, nobody looks again
            value_of(model, "kl")
        value_of(model, "kl", torch.full_like(LABELS, 255))
        said = [str(each.message) for each in recwarn if "the first 10 batches have no label" in str(each.message)]
        assert len(said) == warned


def test_boxes_are_no_label_map() -> None:
    student, teacher = (nn.Sequential(OrderedDict(bbox_head=nn.Conv2d(3, CLASSES, 1))) for _ in range(2))
    entries = [dict(loss="kl", student="bbox_head", source="truth"), dict(loss="mse", student="bbox_head")]
    with pytest.raises(ValueError, match="'truth' is of label maps, tap 'bbox_head' of boxes"):
        densekd.Distillation(student, teacher, entries, example=IMAGES, classes=CLASSES)


def test_a_batch_without_labels_is_named() -> None:
    model = taught(dict(loss="kl", student="head", source="truth"))
    with pytest.raises(ValueError, match=r"'kl': source 'truth' needs .*, which this batch does not have"):
        model(IMAGES)
    with pytest.raises(ValueError, match="for a loss that takes no softmax of them"):
        model(IMAGES, context=dict(targets=torch.zeros(2, CLASSES, 6, 6)))
