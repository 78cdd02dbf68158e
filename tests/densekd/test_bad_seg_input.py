"""What a segmenter may be fed by mistake, or by chance: a clear error at the first step, or a loss that makes sense."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from scipy import ndimage
from torch import Tensor

from densekd import Distiller
from densekd.losses import bpkd_edge
from densekd.losses.boundary import class_edges
from densekd.mmlab.building import build_model
from densekd.taps.reader import Taps

from .conftest import seg_batch

Taught = Callable[..., Distiller]
LOGITS = "decode_head.conv_seg"
BODY, EDGE = ({"loss": key, "student": LOGITS} for key in ("bpkd_body", "bpkd_edge"))
LABELLED = {"loss": "kl", "student": LOGITS, "where": "labelled"}
VOID = 255


def batch_with(model: Distiller, change: Callable[[Tensor], Tensor], which: int | None = None) -> dict[str, Any]:
    """The usual batch with the labels of one of its images, or of all, changed."""
    batch = seg_batch(model)
    for n, sample in enumerate(batch["data_samples"]):
        sample.set_metainfo({"seg_map_path": f"scene {n}.png"})
        if which in (None, n):
            labels = change(sample.gt_sem_seg.data)
            del sample.gt_sem_seg
            sample.gt_sem_seg = PixelData(data=labels)
    return batch


def step(model: Distiller, batch: dict[str, Any]) -> dict[str, Tensor]:
    """One step; every gradient must be a number."""
    losses = model(**batch, mode="loss")
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    model.zero_grad()
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    return losses


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [None, 1])
@pytest.mark.parametrize("entry", [EDGE, LABELLED], ids=["label map", "labels"])
def test_a_label_map_of_another_size(taught: Taught, entry: dict[str, Any], which: int | None) -> None:
    model = taught(entry)
    message = rf"scene {which or 0}\.png has 32 x 48 pixels, its image 64 x 64 after padding.* must resize the label"
    with pytest.raises(ValueError, match=message):
        model(**batch_with(model, lambda labels: labels[:, :32, :48], which), mode="loss")


def test_a_label_map_that_is_larger_than_its_image(taught: Taught) -> None:
    model = taught(EDGE)
    with pytest.raises(ValueError, match="has 128 x 64 pixels, its image 64 x 64"):
        model(**batch_with(model, lambda labels: labels.repeat(1, 2, 1)), mode="loss")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_labels_of_a_float_dtype(taught: Taught, dtype: torch.dtype) -> None:
    model = taught(EDGE)
    message = rf"the labels in scene 0\.png are {dtype}, but classes are integers: use torch\.int64"
    with pytest.raises(ValueError, match=message):
        model(**batch_with(model, lambda labels: labels.to(dtype)), mode="loss")


@pytest.mark.parametrize("label", [11, 200, -1])
def test_a_class_that_the_student_has_not(taught: Taught, label: int) -> None:
    model = taught(EDGE)
    message = rf"labels \[{label}\] in scene 1\.png are out of range: the student has classes 0 to 10 and 255 to ignore"
    with pytest.raises(ValueError, match=message):
        model(
            **batch_with(model, lambda labels: labels.clone().index_fill_(2, torch.tensor([5]), label), 1), mode="loss"
        )


def test_nothing_has_run_when_labels_are_refused(taught: Taught) -> None:
    model = taught(EDGE)
    ran: list[str] = []
    for name, part in (("student", model.backbone), ("teacher", model.teachers["teacher"].model.backbone)):
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    for change in (Tensor.float, lambda labels: labels[:, :9], lambda labels: labels + 11):
        with pytest.raises(ValueError, match="label"):
            model(**batch_with(model, change), mode="loss")
    assert ran == []
    step(model, seg_batch(model))
    assert set(ran) == {"student", "teacher"}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_other_whole_numbers_are_labels_too(dtype: torch.dtype) -> None:
    labels = torch.randint(5, (2, 24, 30))
    s, t = torch.randn(2, 2, 5, 6, 10)
    assert torch.equal(bpkd_edge(s, t, labels.to(dtype)), bpkd_edge(s, t, labels))


# --- what is strange, but right ---------------------------------------------------------------------------------------


def test_all_images_ignored(taught: Taught) -> None:
    model = taught(EDGE, BODY, LABELLED)
    losses = step(model, batch_with(model, lambda labels: torch.full_like(labels, VOID)))
    assert {key: value.item() for key, value in losses.items() if "loss" in key and key.startswith("distill.")} == {
        "distill.loss_bpkd_edge": 0.0,
        "distill.loss_bpkd_body": 0.0,
        "distill.loss_kl": 0.0,
    }


def test_one_image_of_two_ignored(taught: Taught) -> None:
    """It teaches nothing: what its pixels are does not matter to the terms that look at labels."""
    model = taught(EDGE, BODY, LABELLED).eval()
    batch = batch_with(model, lambda labels: torch.full_like(labels, VOID), 1)
    one = step(model, batch)
    batch["inputs"][1] = batch["inputs"][1].flip(-1) * 0.5
    other = step(model, batch)
    for key in ("distill.loss_bpkd_edge", "distill.loss_bpkd_body", "distill.loss_kl"):
        assert one[key] > 0
        torch.testing.assert_close(one[key], other[key])


def test_a_batch_of_one_class(taught: Taught) -> None:
    model = taught(EDGE, BODY)
    losses = step(model, batch_with(model, lambda labels: torch.full_like(labels, 10)))
    assert losses["distill.loss_bpkd_edge"] == 0  # there is no edge
    assert losses["distill.loss_bpkd_body"] > 0


def test_absent_classes_have_no_part_in_the_edges(taught: Taught) -> None:
    """With 2 classes of 11 in the batch nobody asks for the logits of the other 9."""
    model = taught(EDGE)
    step(model, batch_with(model, lambda labels: (labels % 2).where(labels != VOID, labels)))
    labels = torch.randint(2, (2, 24, 30))
    s, t = torch.randn(2, 2, 11, 24, 30)
    expected = bpkd_edge(s, t, labels)
    for z in (s, t):
        z[:, 2:] = 9 * torch.randn(2, 9, 24, 30)
    assert expected > 0
    torch.testing.assert_close(bpkd_edge(s, t, labels), expected)
    assert class_edges(labels, 11, (24, 30))[0][:, 2:].sum() == 0


@pytest.mark.parametrize("shape", [(5, 3), (1, 8), (6, 6)])
def test_a_crop_smaller_than_the_window(shape: tuple[int, int]) -> None:
    """A window that covers the crop makes of every pixel a pixel of each class's band, as dilation and erosion do."""
    labels = np.random.default_rng(0).integers(3, size=shape)
    labels.flat[:2] = 0, 1
    window = np.ones((15, 15), bool)
    expected = [
        ndimage.binary_dilation(labels == c, window) & ~ndimage.binary_erosion(labels == c, window, border_value=1)
        for c in range(4)
    ]
    edges, _ = class_edges(torch.from_numpy(labels)[None], 4, shape, kernel=15)
    np.testing.assert_array_equal(edges[0].numpy(), expected)
    assert edges[0, :2].min() == 1
    assert edges[0, 3].max() == 0


def test_a_window_wider_than_the_image_in_a_step(taught: Taught) -> None:
    wide = [{**entry, "loss": {"type": entry["loss"], "kernel": 129}} for entry in (EDGE, BODY)]
    losses = step(taught(*wide), seg_batch(taught(*wide)))
    assert losses["distill.loss_bpkd_edge"] > 0
    assert losses["distill.loss_bpkd_body"] >= 0


# --- a teacher of other classes ---------------------------------------------------------------------------------------

FEW = [3, 0, 0, 1, 2, 3, 3, 1, 0, 2, 1]


@pytest.fixture
def teacher_of_four(seg: Config) -> torch.nn.Module:
    config = copy.deepcopy(seg)
    config.model.decode_head.num_classes = config.model.auxiliary_head.num_classes = 4
    return build_model(config)[0]


def test_bpkd_asks_which_class_is_which(seg: Config, teacher_of_four: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"student has 11 classes, the teacher 4.*give class_map=\[\.\.\.\]"):
        Distiller(student=seg, teacher=teacher_of_four, method="bpkd")
    for wrong, message in ((FEW[:-1], "student has 11 classes, but class_map has 10"), ([*FEW[:-1], 4], "from 0 to 3")):
        with pytest.raises(ValueError, match=message):
            Distiller(student=seg, teacher=teacher_of_four, distills=[{**EDGE, "class_map": wrong}])


def test_bpkd_with_a_class_map(seg: Config, teacher_of_four: torch.nn.Module) -> None:
    entries = [{**entry, "class_map": FEW} for entry in (EDGE, BODY)]
    model = Distiller(student=seg, teacher=teacher_of_four, distills=entries).eval()
    batch = seg_batch(model)
    losses = step(model, batch)
    with torch.no_grad(), Taps(model, [LOGITS]) as mine, Taps(teacher_of_four, [LOGITS]) as its:
        model(batch["inputs"])
        teacher_of_four(batch["inputs"])
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])
    expected = bpkd_edge(mine[LOGITS][0], its[LOGITS][0][:, FEW], labels)
    torch.testing.assert_close(losses["distill.loss_bpkd_edge"].detach(), expected)
    assert losses["distill.loss_bpkd_body"] > 0
