"""Losses that are off for a part of the training: then the teacher does not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import CheckpointLoader
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from densekd import Distiller, distill, prepare, train

from .conftest import seg_batch

Taught = Callable[..., Distiller]
LOGITS, FEATURES = "decode_head.conv_seg", "decode_head.bottleneck"


@pytest.fixture
def at() -> Iterator[Callable[..., None]]:
    """Say how far the run is."""
    hub = MessageHub.get_instance("test_schedules")
    yield lambda **info: hub.update_info_dict(info)
    MessageHub._instance_dict.pop("test_schedules")


def forwards(model: Distiller, teacher: str = "teacher") -> list[int]:
    """A list that grows by one with each forward of the teacher's stem."""
    calls: list[int] = []
    model.teachers[teacher].model.backbone.register_forward_hook(lambda *args: calls.append(1))
    return calls


def entry(loss: Any, student: str = LOGITS, **options: Any) -> dict[str, Any]:
    return {"loss": loss, "student": student, **options}


def test_no_forward_of_a_teacher_that_nobody_asks(taught: Taught, at: Callable[..., None]) -> None:
    model = taught(entry({"type": "until", "loss": "kl", "stop": 0.5}))
    calls = forwards(model)
    for step in range(10):
        at(iter=step, max_iters=10)
        losses = model(**seg_batch(model), mode="loss")
        assert len(calls) == min(step + 1, 5)
        assert (losses["distill.loss_until"] == 0) == (step >= 5)
        assert "distill.loss_until" in model.parse_losses(losses)[1]


def test_the_teacher_runs_while_any_term_asks_and_no_further_than_its_tap(
    taught: Taught, at: Callable[..., None]
) -> None:
    late = entry({"type": "ramp", "over": (0.5, 1.0)})
    early = entry({"type": "until", "loss": "mse", "stop": 0.7}, "backbone:2")
    model = taught(late, early)
    calls, heads = forwards(model), []
    model.teachers["teacher"].model.decode_head.bottleneck.register_forward_hook(lambda *args: heads.append(1))
    for progress, asked, whole in [(0.2, 1, 0), (0.6, 2, 1), (0.8, 3, 2)]:
        at(iter=int(10 * progress), max_iters=10)
        losses = model(**seg_batch(model), mode="loss")
        assert (len(calls), len(heads)) == (asked, whole)
        assert (losses["distill.loss_ramp"] > 0) == (progress > 0.5)
        assert (losses["distill.loss_until"] > 0) == (progress < 0.7)


def test_a_loss_inside_a_schedule_learns_the_channels_of_the_taps(taught: Taught, at: Callable[..., None]) -> None:
    model = taught(entry({"type": "ramp", "loss": "vid"}, FEATURES))
    at(iter=5, max_iters=10)
    model(**seg_batch(model), mode="loss")["distill.loss_ramp"].backward()
    learned = dict(model.distill["ramp"].named_parameters())
    assert learned
    assert all(p.grad.abs().sum() > 0 for p in learned.values())


def test_teachers_take_turns(taught: Taught, seg_teacher: dict[str, str], at: Callable[..., None]) -> None:
    entries = [
        entry({"type": "stages", "losses": [(0.5, "mse"), (1.0, None)]}, FEATURES, source="big", name="general"),
        entry({"type": "stages", "losses": [(0.5, None), (1.0, "kl")]}, source="own", name="task"),
    ]
    teachers = {"big": seg_teacher["teacher"], "own": "ema"}
    model = taught(*entries, teacher=teachers, checkpoint={"big": seg_teacher["checkpoint"]}, momentum=0.5)
    big, own = forwards(model, "big"), forwards(model, "own")
    for step, asked in enumerate([(1, 0), (2, 0), (2, 1), (2, 2)]):
        at(iter=step, max_iters=4)
        model(**seg_batch(model), mode="loss")
        assert (len(big), len(own)) == asked
        assert model.teachers["own"].steps == step + 1  # the average goes on, asked or not


def test_weight_zero_asks_no_teacher(taught: Taught) -> None:
    model = taught(entry("kl", weight=0.0))
    calls = forwards(model)
    assert model(**seg_batch(model), mode="loss")["distill.loss_kl"] == 0
    assert not calls


def test_a_term_that_is_off_changes_no_gradient_and_reaches_its_connector(
    taught: Taught, at: Callable[..., None]
) -> None:
    """The gradients are the plain student's to the bit; the connector's are 0, as distributed training needs them."""
    at(iter=1, max_iters=2)
    model = taught(entry({"type": "until", "loss": "mse"}, "backbone:2"))
    gradients = []
    for terms in (model.distill, torch.nn.ModuleDict()):
        model.distill = terms
        torch.manual_seed(1)  # dropout
        model.zero_grad()
        model.eval()
        model.parse_losses(model(**seg_batch(model), mode="loss"))[0].backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    off, plain = gradients
    assert set(off) - set(plain) == {f"distill.until.adapt.0.project.{kind}" for kind in ("weight", "bias")}
    for name, gradient in off.items():
        assert torch.equal(gradient, plain.get(name, torch.zeros_like(gradient))), name


def test_a_frozen_tap_is_named_before_the_term_is_on(taught: Taught, at: Callable[..., None]) -> None:
    at(iter=0, max_iters=2)
    model = taught(entry({"type": "ramp", "loss": "mse"}, "backbone:0"))
    model.backbone.requires_grad_(False)
    with pytest.raises(RuntimeError, match="'ramp' has no effect"):
        model(**seg_batch(model), mode="loss")


def test_what_the_run_does_not_tell_is_named(taught: Taught, at: Callable[..., None]) -> None:
    at(iter=0, max_iters=10, epoch=0, max_epochs=1)  # what mmengine says in a run of iterations
    model = taught(entry("warmup"))
    with pytest.raises(TypeError, match="loss 'warmup' requires 'epoch'; pass epoch="):
        model(**seg_batch(model), mode="loss")
    at(epoch=1, max_epochs=5)
    model = taught(entry({"type": "warmup", "epochs": 2}), entry("kl"))
    losses = model.eval()(**seg_batch(model), mode="loss")
    torch.testing.assert_close(losses["distill.loss_warmup"], losses["distill.loss_kl"] / 2)


class CountForwards(Hook):
    """Count what the teacher is asked in a real run."""

    def before_train(self, runner: Any) -> None:
        self.calls = forwards(runner.model)


def test_a_real_run_and_its_resumption_land_on_the_same_side(
    seg: Config, seg_teacher: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    loss = {"type": "stages", "losses": [(0.5, "kl"), (0.8, None), (1.0, "kl")]}
    seg.val_cfg = seg.val_dataloader = seg.val_evaluator = None
    config = distill(seg, **seg_teacher, distills=[entry(loss)])
    counts = []
    for resume in (False, str(tmp_path / "iter_4.pth")):
        MMLogger._instance_dict.clear()
        count = CountForwards()
        config.experiment_name = f"stages-{bool(resume)}"
        train(prepare(config.copy(), work_dir=tmp_path, seed=0, resume=resume), [count])
        counts.append(len(count.calls))
    assert counts == [4, 1]  # iterations 0, 1, 2 and 5 of 6; then 5 alone


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_training_goes_on_while_a_term_is_off(taught: Taught, at: Callable[..., None]) -> None:
    """DDP gives up when a parameter got no gradient in the step before."""
    model = taught(entry({"type": "until", "loss": "mse"}, "backbone:2"), entry({"type": "ramp"}, FEATURES))
    wrapped = DistributedDataParallel(revert_sync_batchnorm(model))
    for step in range(4):
        at(iter=step, max_iters=4)
        model.parse_losses(wrapped(**seg_batch(model), mode="loss"))[0].backward()
