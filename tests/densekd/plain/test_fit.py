"""The small training function, and what it measures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.metrics import accuracy_score, jaccard_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import densekd
from densekd.plain.scenes import MEAN, STD, Scenes
from densekd.plain.scores import accuracy, confusion, logits_of, mean_iou, measured


def net(width: int = 4, classes: int = 3) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(OrderedDict(body=body, head=nn.Conv2d(width, classes, 1)))


def scenes(count: int, seed: int, labelled: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    """Blocks of three colours under noise; the class of a pixel is its colour, and a share of them is labelled."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        label = torch.randint(3, (4, 4), generator=draw).repeat_interleave(4, 0).repeat_interleave(4, 1)
        image = torch.eye(3)[label].permute(2, 0, 1) + torch.randn(3, 16, 16, generator=draw)
        label[torch.rand(16, 16, generator=draw) >= labelled] = 255
        found.append((image, label))
    return found


def test_metrics_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 4, 6, 6, generator=draw), torch.randint(4, (2, 6, 6), generator=draw)
    labels[:, 0] = 255
    counts = confusion(logits, labels)
    keep = labels != 255
    truth, answer = labels[keep].numpy(), logits.argmax(1)[keep].numpy()
    assert counts.sum() == keep.sum()
    assert accuracy(counts) == pytest.approx(accuracy_score(truth, answer))
    assert mean_iou(counts) == pytest.approx(jaccard_score(truth, answer, average="macro"))


def test_logits_of_outputs() -> None:
    x = torch.zeros(1)
    for output in (x, {"logits": x}, {"out": x, "aux": x}, (x, "more"), [x]):
        assert logits_of(output) is x
    with pytest.raises(TypeError, match=r"no logits in the model's output, a dict: give loss=fn"):
        logits_of({"boxes": x})
    first, *others = [torch.zeros(1, 4, size, size) for size in (8, 4, 2)]
    assert logits_of([first, *others]) is first  # deep supervision
    with pytest.raises(TypeError, match=r"a list of 2 maps of unlike channels, as timm's features_only does"):
        logits_of([torch.zeros(1, 16, 8, 8), torch.zeros(1, 24, 4, 4)])


def test_a_distilled_student_beats_its_control() -> None:
    """Of the pixels of six scenes one in fifty has a label; the teacher has seen all labels of many more scenes."""
    lines: list[str] = []
    data = dict(train=scenes(6, 0, 0.02), val=scenes(8, 1), test=scenes(20, 2))
    made = densekd.fit(lambda: net(16), train=scenes(48, 3), val=data["val"], epochs=20, lr=0.02, log=lines.append)
    assert list(made.metrics) == ["student"]
    assert (len(lines), lines[-1][:25]) == (20, "student, epoch 20 of 20: ")
    gains = []
    for seed in range(3):
        quick: dict[str, Any] = dict(epochs=10, batch_size=3, lr=0.02, seed=seed, log=str)
        result = densekd.fit(net, made.student, **data, method="kl", **quick)
        assert list(result.metrics) == ["teacher", "control", "student"]
        assert list(result.metrics["student"]) == ["val mIoU", "val bIoU", "mIoU", "bIoU"]
        gains.append(result.metrics["student"]["mIoU"] - result.metrics["control"]["mIoU"])
    assert min(gains) > 0.01
    assert repr(result).endswith("\n\nbIoU: mean IoU of the pixels within 3 of an edge of the labels.")


def test_the_pixels_near_edges_are_measured_over_all_batches() -> None:
    data = scenes(6, 0, 0.9)
    model = net().eval()
    found = measured(model, DataLoader(data, batch_size=2))
    guesses, truths = [], []
    with torch.no_grad():
        for image, truth in data:
            away = np.full(truth.shape, np.inf)
            for c in range(3):
                others = (truth != c) & (truth != 255)
                away[truth == c] = ndimage.distance_transform_edt(~others.numpy())[truth == c]
            near = torch.from_numpy(away <= 3)
            assert 0.2 < near.float().mean() < 0.9
            guesses.append(model(image[None]).argmax(1)[0][near])
            truths.append(truth[near])
    assert found["bIoU"] == pytest.approx(
        jaccard_score(torch.cat(truths).numpy(), torch.cat(guesses).numpy(), average="macro")
    )
    assert found["bIoU"] != pytest.approx(found["mIoU"])
    flat = [(torch.zeros(3, 16, 16), torch.ones(16, 16, dtype=torch.long))]
    assert np.isnan(measured(model, DataLoader(flat))["bIoU"])  # no edge anywhere


def test_a_run_can_be_repeated_and_the_control_starts_as_the_student() -> None:
    data: dict[str, Any] = dict(train=scenes(4, 0), val=scenes(2, 1), epochs=2, batch_size=2, log=str)
    state = torch.get_rng_state()
    one, two = (densekd.fit(net, net(8).eval(), **data, method="kl", seed=5) for _ in range(2))
    alone = densekd.fit(net, **data, seed=5)
    assert one.metrics["control"] == two.metrics["control"] == alone.metrics["student"]
    idle = densekd.fit(net, net(8), **data, seed=5, distills=[dict(loss="kl", student="head", weight=0.0)])
    for mine, its in zip(idle.student.state_dict().values(), alone.student.state_dict().values()):
        assert torch.equal(mine, its)  # at weight 0 it is the control, from the same weights and batches
    torch.set_rng_state(state)
    densekd.fit(net, **data)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's numbers are not drawn


def test_a_live_student_is_not_changed_and_keeps_its_weights_as_a_start() -> None:
    student = net()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    options: dict[str, Any] = dict(train=scenes(4, 0), val=scenes(2, 1), epochs=1, lr=1e-9, log=str)
    result = densekd.fit(student, **options)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    assert torch.allclose(result.student.head.weight, student.head.weight, atol=1e-6)


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.fc(features)}


def test_classes_of_images_in_dicts_from_a_loader() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, generator=draw)
    rows = [dict(features=each, labels=each[:3].argmax()) for each in x]
    loader = DataLoader(rows, batch_size=8, shuffle=True)
    result = densekd.fit(Keyed, train=loader, val=rows, epochs=12, lr=0.1, log=str)
    assert list(result.metrics["student"]) == ["val accuracy"]
    assert result.metrics["student"]["val accuracy"] > 0.85


def test_a_metric_of_ones_own() -> None:
    def least(model: nn.Module, batches: DataLoader) -> float:
        return -float(sum(p.detach().abs().sum() for p in model.parameters()))

    result = densekd.fit(net, train=scenes(4, 0), val=scenes(2, 1), epochs=3, metric=least, weight_decay=1.0, log=str)
    assert list(result.metrics["student"]) == ["val least"]
    assert result.metrics["student"]["val least"] == pytest.approx(least(result.student, None))  # of the best epoch


PLACES = [dict(loss="mse", student="body", where="boxes")]


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from scenes(2, 0)


def of_class(k: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(3, 16, 16), torch.full((16, 16), k)


def test_a_batch_without_a_label_that_counts_teaches_nothing() -> None:
    result = densekd.fit(net, train=[of_class(255), *scenes(3, 0)], val=scenes(2, 1), epochs=2, batch_size=1, log=str)
    assert all(weight.isfinite().all() for weight in result.student.parameters())


def test_a_label_out_of_range_is_named_in_whichever_batch_it_is() -> None:
    with pytest.raises(ValueError, match=r"labels \[7\] are out of range: the model has classes 0 to 2"):
        densekd.fit(net, train=[*scenes(2, 0), of_class(7)], val=scenes(2, 1), batch_size=1, epochs=9, log=str)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_integers(dtype: torch.dtype) -> None:
    data = [(image, label.to(dtype)) for image, label in scenes(2, 0)]
    options: dict[str, Any] = dict(epochs=1, control=False, method="kl", log=str)
    result = densekd.fit(net, net(8), train=data, val=data, **options)
    same = densekd.fit(net, result.outcomes["teacher"].model, train=scenes(2, 0), val=scenes(2, 0), **options)
    assert result.metrics == same.metrics


def test_a_teacher_of_features_is_not_measured() -> None:
    """Its 8 channels are no classes, and would have been counted as such."""
    lines: list[str] = []
    entries = [dict(loss="mse", student="body", teacher="0")]
    options: dict[str, Any] = dict(train=scenes(2, 0), val=scenes(2, 1), epochs=1, log=lines.append)
    result = densekd.fit(net, nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), distills=entries, **options)
    assert list(result.metrics) == ["control", "student"]
    assert lines[0] == "teacher: not measured, its output is no logits of the student's classes"


def test_a_loader_with_a_generator_of_its_own_shows_both_the_same_batches() -> None:
    seen: list[float] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, image: Tensor) -> Tensor:
            if self.training:
                seen.append(image.sum().item())
            return self.net(image)

    batches = DataLoader(scenes(8, 0), 2, shuffle=True, generator=torch.Generator().manual_seed(3))
    entries = [dict(loss="kl", student="net.head", teacher="head")]
    densekd.fit(Watched, net(8), train=batches, val=scenes(2, 1), distills=entries, epochs=2, log=str)
    assert len(seen) == 16
    assert seen[:8] == seen[8:]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(method="kl"), ValueError, "distills and method need a teacher"),
        (dict(epochs=0), ValueError, "epochs must be an integer of at least 1"),
        (dict(train=iter([])), TypeError, "a data set with a length, or a DataLoader"),
        (dict(train=[]), ValueError, "a data set is empty"),
        (dict(train=[torch.zeros(3, 4, 4)] * 2), TypeError, r"a pair \(input, labels\), or a dict with 'labels'"),
        (dict(student=lambda: net(4, 2)), ValueError, r"labels \[2\] are out of range: the model has classes 0 to 1"),
        (dict(train=[(torch.zeros(3, 4, 4), 1)] * 2), ValueError, "need labels of 3 axes"),
        (dict(student="resnet"), TypeError, "a torch.nn.Module, or a function that returns one, got 'resnet'"),
        (dict(student=lambda: None), TypeError, "the student must be a torch.nn.Module, got None"),
        (dict(student=net().requires_grad_(False)), ValueError, "has no parameter that requires a gradient"),
        (dict(loss=lambda output, labels: 0.5), TypeError, r"loss\(output, labels\) must return a tensor .*got float"),
        (dict(loss=lambda output, labels: output), TypeError, r"without axes, got \(2, 3, 16, 16\)"),
        (
            dict(teacher=net(8), distills=PLACES),
            ValueError,
            "where='boxes' needs boxes, which this batch does not have",
        ),
        (dict(train=DataLoader(Stream())), TypeError, "a DataLoader must have a length"),
        (dict(val=[*scenes(9, 1), of_class(7)]), ValueError, r"val: labels \[7\] are out of range"),
        (dict(test=[*scenes(9, 1), of_class(-1)]), ValueError, r"test: labels \[-1\] are out of range"),
        (dict(val=[of_class(255)] * 2), ValueError, "val: each label is 255, which does not count"),
        (dict(teacher=lambda: net(), method="kl"), TypeError, "must be a torch.nn.Module, 'ema' or 'past'"),
        (dict(teacher=net(8), method="kll"), KeyError, "kl"),
        (dict(lr=1e30, epochs=3), FloatingPointError, "lower lr"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], words: str) -> None:
    lines: list[str] = []
    given: dict[str, Any] = dict(student=net, train=scenes(2, 0), val=scenes(2, 1), log=lines.append) | options
    with pytest.raises(error, match=words):
        densekd.fit(given.pop("student"), given.pop("teacher", None), **given)
    assert error is FloatingPointError or not lines  # before any training


def test_scenes(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, 3:] = 255
    classes = np.array([[0, 0, 0, 11, 1, 1]] * 4, np.uint8)
    Image.fromarray(picture).save(tmp_path / "images" / "a.png")
    Image.fromarray(classes).save(tmp_path / "labels" / "a.png")
    data = Scenes(tmp_path / "images", tmp_path / "labels", label_map={11: 255}, flip=True)
    torch.manual_seed(0)
    seen = {tuple(data[0][1][0].tolist()) for _ in range(20)}
    assert seen == {(0, 0, 0, 255, 1, 1), (1, 1, 255, 0, 0, 0)}
    image, label = data[0]
    assert (image[0, 0].lt(0) == (label[0] == 0)).all()  # mirrored together
    assert image.amax().item() == pytest.approx(((1 - np.array(MEAN)) / STD).max(), rel=1e-5)
    small = Scenes(tmp_path / "images", tmp_path / "labels", size=(2, 3))
    assert (small[0][0].shape, small[0][1].tolist()) == ((3, 2, 3), [[0, 11, 1]] * 2)
    for wrong in (np.zeros((4, 6, 3), np.uint8), np.zeros((2, 3), np.uint8), np.full((4, 6), 300, np.uint16)):
        Image.fromarray(wrong).save(tmp_path / "labels" / "a.png")
        with pytest.raises(ValueError, match=r"label map .*a\.png must be an 8-bit image of one channel, as large as"):
            Scenes(tmp_path / "images", tmp_path / "labels")
    (tmp_path / "labels" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.png has no label map"):
        Scenes(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(FileNotFoundError, match="no images in"):
        Scenes(tmp_path / "labels", tmp_path / "labels")
