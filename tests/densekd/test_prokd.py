"""A domain of images without labels, taught by prototypes of the teacher's features."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller, read_config

from .policies.small import Pair, net, scenes, trained

ENTRY = dict(student="head", teacher="body")


def dim(pairs: list[Pair], labels: bool) -> list[Pair]:
    """The same scenes in another light."""
    return [(0.4 * image + 0.4, label if labels else torch.full_like(label, 255)) for image, label in pairs]


def test_pixels_without_labels_teach_the_student_of_their_domain() -> None:
    """Two scenes with labels, and twelve of another light without any, in which the student is tested."""
    teacher = trained(lambda: net(8), None, scenes(32, 5, noise=0.4), [], epochs=4).student
    data = scenes(4, 0, noise=0.4) + dim(scenes(12, 1, noise=0.4), labels=False)
    test = dim(scenes(12, 2, noise=0.4), labels=True)
    options: dict[str, Any] = dict(val=test, epochs=4)
    entry = dict(ENTRY, loss=dict(type="prokd", self_training=1.0, kappa=0.7))
    found = trained(net, teacher, data, [], distills=[entry], **options).metrics
    assert found["student"]["val mIoU"] > found["control"]["val mIoU"] + 0.05, found
    told = trained(net, teacher, data, [], distills=[dict(student="head", loss="kl")], control=False, **options).metrics
    assert found["student"]["val mIoU"] > told["student"]["val mIoU"] + 0.1  # prototypes say more than the teacher


def test_the_config_has_a_domain_without_labels_and_teaches_there_alone() -> None:
    config = read_config("densekd::seg/prokd/digits")
    config.model.pop("type")
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        model = Distiller(**config.model, checkpoint="random")
        batch = model.data_preprocessor(next(iter(Runner.build_dataloader(config.train_dataloader, seed=0))), True)
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in batch["data_samples"]])
    unlabelled = (labels == 255).flatten(1).all(1)
    assert unlabelled.tolist() == 4 * [False] + 4 * [True]
    loss = model.distill.prokd.loss.loss
    assert loss.align.in_features == 64
    logits: list[torch.Tensor] = []
    model.decode_head.conv_seg.register_forward_hook(
        lambda _, args, output: (output.retain_grad(), logits.append(output))[0]
    )
    model(**batch, mode="loss")["distill.loss_prokd"].backward()
    moved = logits[0].grad.abs().flatten(1).amax(1) > 0
    assert moved.tolist() == unlabelled.tolist()
    assert loss.align.weight.grad.abs().sum() > 0
