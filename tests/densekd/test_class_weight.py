"""Terms whose positions count by class as those of the task do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from densekd import Distillation, Distiller
from densekd.context import class_weight_of
from densekd.mmlab.building import build_model
from densekd.taps.reader import Taps

from .conftest import seg_batch

TAP = "decode_head.conv_seg"
WEIGHTS = [0.1] + 10 * [1.0]
Weighed = Callable[..., Distiller]


@pytest.fixture
def weighed(seg: Config, seg_teacher: dict[str, str]) -> Weighed:
    """A small taught segmenter whose task counts class 0 by a tenth."""
    seg.model.decode_head.loss_decode.class_weight = WEIGHTS
    seg.model.decode_head.dropout_ratio = 0.0

    def build(*distills: dict[str, Any], **options: Any) -> Distiller:
        entries = {"distills": list(distills)} if distills else {}
        torch.manual_seed(0)
        return Distiller(student=seg, **{**seg_teacher, **entries, **options})

    return build


def batch_of(model: nn.Module) -> dict[str, Any]:
    """Two images: a quarter has no label, of the rest eleven pixels of twelve are of class 0, in squares."""
    batch = seg_batch(model)
    for sample, digit in zip(batch["data_samples"], (3, 7)):
        labels = sample.gt_sem_seg.data
        labels[:] = 0
        labels[:, :16], labels[:, 32:48, 16:32] = 255, digit
    return batch


def gradients(model: Distiller, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Norms of the gradients of task and term at each position of the tap, and the labels there."""
    with Taps(model, [TAP]) as taps:
        losses = model.train()(**batch, mode="loss")
    (logits,) = taps[TAP]
    term = losses.pop("distill.loss_kl")
    task = losses["decode.loss_ce"]
    norms = [torch.autograd.grad(loss, logits, retain_graph=True)[0].norm(dim=1).numpy() for loss in (task, term)]
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])
    step = labels.shape[-1] // logits.shape[-1]
    return norms[0], norms[1], labels[:, ::step, ::step].numpy()


def test_the_value_is_the_mean_that_numpy_weighs(weighed: Weighed) -> None:
    model = weighed({"loss": {"type": "kl", "tau": 2.0}, "student": TAP, "class_weight": "task"}).train()
    batch = batch_of(model)
    with Taps(model, [TAP]) as taps:
        found = model(**batch, mode="loss")["distill.loss_kl"]
    its = model.teachers["teacher"].run(batch["inputs"], batch["data_samples"], {TAP})
    s, t = (each[TAP][0].detach().double().numpy() / 2 for each in (taps, its))
    log_s, log_t = (each - np.log(np.exp(each).sum(1, keepdims=True)) for each in (s, t))
    values = 4 * (np.exp(log_t) * (log_t - log_s)).sum(1)
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]]).numpy()
    labels = labels[:, :: labels.shape[1] // s.shape[2], :: labels.shape[2] // s.shape[3]]
    known = labels != 255
    weights = np.where(known, np.array(WEIGHTS)[np.where(known, labels, 0)], 0)
    weights[~known] = weights[known].mean()  # what has no label counts as one that has does in the mean
    np.testing.assert_allclose(found.item(), (weights * values).sum() / weights.sum(), rtol=1e-5)


def test_background_counts_beside_the_others_as_it_does_in_the_task(weighed: Weighed) -> None:
    """Of two trainings one weighs by class: its gradient shrinks on background by ten, beside that on digits."""
    both = {}
    for how in ("task", "equal"):
        model = weighed({"loss": "kl", "student": TAP, "class_weight": how})
        both[how] = gradients(model, batch_of(model))
    (task, weighted, labels), (_, alike, _) = both["task"], both["equal"]
    background, digits = labels == 0, (labels > 0) & (labels < 255)
    assert background.sum() > 5 * digits.sum()
    shrunk = (weighted[background] / alike[background]).mean() / (weighted[digits] / alike[digits]).mean()
    assert shrunk == pytest.approx(0.1, rel=1e-3)
    mine, its = (np.square(each[background]).sum() / np.square(each[digits]).sum() for each in (task, weighted))
    without = np.square(alike[background]).sum() / np.square(alike[digits]).sum()
    assert its < 0.05 * without
    assert abs(np.log(its / mine)) < abs(np.log(without / mine))


def test_a_measured_weight_has_the_positions_of_the_task_if_not_told_otherwise(weighed: Weighed, seg: Config) -> None:
    def by_class(*entries: dict[str, Any], **options: Any) -> list[Any]:
        return [None if t.by_class is None else t.by_class.tolist() for t in weighed(*entries, **options)._terms()]

    plain, auto = {"loss": "kl", "student": TAP}, {"loss": "kl", "student": TAP, "weight": "auto"}
    expected = pytest.approx(WEIGHTS)
    assert by_class(plain) == [None]
    assert by_class(auto) == [expected]
    assert by_class(plain, balance="auto") == [expected]
    assert by_class({**auto, "class_weight": "equal"}) == [None]
    assert by_class({**plain, "class_weight": list(range(11))}) == [pytest.approx(range(11))]
    takes_none = {"loss": "freekd", "student": "backbone:2", "weight": "auto"}
    assert "weight" not in weighed(takes_none)._terms()[0].loss.needs
    assert by_class(takes_none) == [None]
    seg.model.decode_head.loss_decode.class_weight = None
    assert by_class(auto) == [None]
    assert "by_class" not in " ".join(weighed(auto).state_dict())


def test_every_method_has_the_option_for_the_losses_that_take_a_weight(weighed: Weighed) -> None:
    def by_class(**method: Any) -> dict[str, Any]:
        terms = weighed(method=method)._terms()
        return {term.name: None if term.by_class is None else term.by_class.tolist() for term in terms}

    expected = pytest.approx(WEIGHTS)
    assert by_class(type="kl") == {"kl": None}
    assert by_class(type="kl", class_weight="task") == {"kl": expected}
    assert by_class(type="ofa", class_weight="task") == {"ofa": expected, "ofa_stages": expected}
    assert by_class(type="talking", class_weight=WEIGHTS) == {"kl": expected, "talking": expected}
    with pytest.raises(ValueError, match="method 'freekd': none of its losses takes a weight"):
        by_class(type="freekd", class_weight="task")
    with pytest.raises(ValueError, match="class_weight has 2 numbers, the head 11 classes"):
        by_class(type="kl", class_weight=[1.0, 2.0])


def test_an_images_labels_weigh_where_only_some_have_any(weighed: Weighed) -> None:
    """An image without labels counts as much as a labelled one of the mean weight; `where` still chooses."""
    model = weighed(
        {"loss": "kl", "student": TAP, "class_weight": "task"},
        {"loss": "kl", "student": TAP, "class_weight": "task", "where": "labelled", "name": "kl_labelled"},
    )
    batch = batch_of(model)
    batch["data_samples"][1].gt_sem_seg.data[:] = 255
    with Taps(model, [TAP]) as taps:
        losses = model.train()(**batch, mode="loss")
    (logits,) = taps[TAP]
    every, known = (
        torch.autograd.grad(losses[f"distill.loss_{name}"], logits, retain_graph=True)[0].norm(dim=1)
        for name in ("kl", "kl_labelled")
    )
    labels = batch["data_samples"][0].gt_sem_seg.data[0, :: 64 // logits.shape[2], :: 64 // logits.shape[3]]
    assert (every[1] > 0).all()
    assert not known[1].any()
    assert torch.equal(known[0] > 0, labels != 255)
    for sample in batch["data_samples"]:  # no label in the whole batch: all count alike
        sample.gt_sem_seg.data[:] = 255
    alike = weighed({"loss": "kl", "student": TAP})
    values = [each.train()(**batch, mode="loss")["distill.loss_kl"] for each in (model, alike)]
    torch.testing.assert_close(*values)


def test_the_weights_of_a_head(seg: Config) -> None:
    assert class_weight_of(build_model(seg)[0]) is None
    seg.model.auxiliary_head.loss_decode.class_weight = [2.0] * 11
    seg.model.decode_head.loss_decode = [
        dict(type="DiceLoss", loss_name="loss_dice"),
        dict(type="CrossEntropyLoss", class_weight=WEIGHTS),
    ]
    model = build_model(seg)[0]
    assert class_weight_of(model) == WEIGHTS
    assert class_weight_of(model, "auxiliary_head.conv_seg") == [2.0] * 11
    assert class_weight_of(nn.Linear(2, 2)) is None


def test_any_pytorch_model_takes_numbers() -> None:
    torch.manual_seed(0)
    student, teacher, images = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), torch.rand(2, 3, 8, 8)
    labels = torch.randint(4, (2, 8, 8))
    entry = {"loss": "kl", "student": ":", "class_weight": [0.0, 1.0, 1.0, 1.0]}
    model = Distillation(student, teacher, [entry], example=images, classes=4)
    loss = model(images, context={"labels": labels})[1]["kl"]
    p, q = (each(images).softmax(1).detach().double().numpy() for each in (teacher, student))
    values = (p * np.log(p / q)).sum(1)
    assert loss.item() == pytest.approx(values[labels.numpy() > 0].mean(), rel=1e-5)
    everywhere = model(images)[1]["kl"]  # a batch without labels
    assert everywhere.item() == pytest.approx(values.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"class_weight": "head"}, "class_weight is 'task', 'equal', or a number of at least 0 for each class"),
        ({"class_weight": [1.0, -1.0]}, "class_weight is 'task', 'equal'"),
        ({"class_weight": [0.0] * 11}, "not all 0"),
        ({"class_weight": [1.0] * 4}, "class_weight has 4 numbers, the head 11 classes"),
        ({"class_weight": "task", "loss": "freekd", "student": "backbone:2"}, "its loss takes no weight"),
    ],
)
def test_what_is_wrong_is_named(weighed: Weighed, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        weighed({"loss": "kl", "student": TAP, **given})


def test_a_head_without_weights_has_none_to_take(weighed: Weighed, seg: Config) -> None:
    seg.model.decode_head.loss_decode.class_weight = None
    with pytest.raises(ValueError, match=r"'kl' .*class_weight='task': the loss of the head has none"):
        weighed({"loss": "kl", "student": TAP, "class_weight": "task"})
