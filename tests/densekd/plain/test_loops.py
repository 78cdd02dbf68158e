"""Loops of libraries, and several processes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainingArguments

from densekd import Distillation


def segformer(width: int) -> nn.Module:
    sizes: dict[str, Any] = dict(hidden_sizes=[width] * 4, depths=[1] * 4, num_attention_heads=[1] * 4)
    sizes |= dict(decoder_hidden_size=width, num_labels=3)
    config = SegformerConfig(**sizes, classifier_dropout_prob=0.0, drop_path_rate=0.0)
    return SegformerForSemanticSegmentation(config)


IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(3, (4, 32, 32), generator=torch.Generator().manual_seed(1))


def total(output: Any, losses: dict[str, Tensor]) -> Tensor:
    return output.loss + sum(losses.values())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): each.grad for name, each in model.named_parameters()}


@pytest.fixture
def distillation() -> Distillation:
    torch.manual_seed(0)
    entries = [dict(loss="mse", student="decode_head.classifier:in")]
    return Distillation(segformer(8), segformer(12), entries, example=IMAGES)


def test_ddp_of_the_whole_yields_the_same_gradients(distillation: Distillation, tmp_path: Path) -> None:
    plain = copy.deepcopy(distillation)
    total(*plain(IMAGES, labels=LABELS)).backward()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(distillation)
        total(*wrapped(IMAGES, labels=LABELS)).backward()
    finally:
        dist.destroy_process_group()
    expected, got = gradients(plain), gradients(wrapped)
    assert expected.keys() == got.keys()
    assert any(name.startswith("connectors.") for name in got)
    assert all(torch.allclose(got[name], each, atol=1e-6) for name, each in expected.items())


def test_accelerate(distillation: Distillation) -> None:
    accelerator = Accelerator(cpu=True)
    optimiser = torch.optim.SGD(distillation.parameters(), lr=0.1)
    data = torch.utils.data.DataLoader([*zip(IMAGES, LABELS)], batch_size=2)
    model, optimiser, data = accelerator.prepare(distillation, optimiser, data)
    before = {name: each.detach().clone() for name, each in distillation.named_parameters()}
    for images, labels in data:
        optimiser.zero_grad()
        accelerator.backward(total(*model(images, labels=labels)))
        optimiser.step()
    moved = {name for name, each in distillation.named_parameters() if not torch.equal(before[name], each)}
    assert {"connectors.mse.adapt.0.project.weight", "student.decode_head.classifier.weight"} <= moved


class Own(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        output, losses = model(**inputs)
        loss = total(output, losses)
        return (loss, output) if return_outputs else loss


def test_trainer_of_transformers(distillation: Distillation, tmp_path: Path) -> None:
    data = [dict(pixel_values=image, labels=label) for image, label in zip(IMAGES, LABELS)]
    options: dict[str, Any] = dict(
        report_to=[], use_cpu=True, per_device_train_batch_size=2, learning_rate=1e-2, save_strategy="no"
    )
    options |= dict(label_names=["labels"], remove_unused_columns=False)
    trainer = Own(
        distillation,
        TrainingArguments(str(tmp_path), max_steps=4, **options),
        train_dataset=data,
        eval_dataset=data,
    )
    start = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < start
    distillation.student.save_pretrained(tmp_path / "student")
    again = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "student")
    assert torch.equal(again.eval()(IMAGES).logits, distillation.student.eval()(IMAGES).logits)


def test_mixed_precision_on_the_cpu(distillation: Distillation) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output, losses = distillation(IMAGES, labels=LABELS)
    assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses.values())
    total(output, losses).backward()
