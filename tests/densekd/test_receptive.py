"""Tokens learned on a teacher beforehand: its task through their masks, nothing of it changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from densekd import Distiller
from densekd.cli import tokens
from densekd.losses.receptive_tokens import ReceptiveTokens, overlap
from densekd.mmlab.building import build_model
from densekd.receptive import learn_tokens
from densekd.taps.reader import Taps

from .conftest import det_batch, seg_batch


class Raw(nn.Module):
    """What stands in for a preprocessor where batches are made already."""

    def forward(self, batch: dict, training: bool) -> dict:
        return batch


@pytest.fixture
def teacher(seg: Config) -> nn.Module:
    torch.manual_seed(0)
    return build_model(seg)[0]


def test_masks_keep_the_task_and_part(teacher: nn.Module) -> None:
    teacher.decode_head.bottleneck.bn.weight.data *= 100  # features as large as those of a trained model
    batch = seg_batch(teacher)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    asked, mode = [p.requires_grad for p in teacher.parameters()], teacher.training
    teacher.data_preprocessor = Raw()
    torch.manual_seed(0)
    tap = "decode_head.bottleneck"
    learned = learn_tokens(teacher, [batch], [tap], tokens=3, iterations=40)[tap]

    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert [p.requires_grad for p in teacher.parameters()] == asked
    assert teacher.training == mode
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())

    with torch.no_grad(), Taps(teacher.eval(), [tap]) as taps:
        teacher(batch["inputs"])
    (f,) = taps[tap]
    torch.manual_seed(0)
    fresh = ReceptiveTokens(f.shape[1], 3)
    assert overlap(learned.masks(f)).mean() < 0.9 * overlap(fresh.masks(f)).mean()

    def task(tokens: ReceptiveTokens) -> float:
        with torch.no_grad():
            logits = teacher.decode_head.cls_seg(tokens.attend(f)[0])
            return teacher.decode_head.loss_by_feat(logits, batch["data_samples"])["loss_ce"].item()

    assert task(learned) < task(fresh)


def test_attend_is_the_sum_of_the_masked_features() -> None:
    f = torch.randn(2, 4, 5, 6)
    for weigh in (True, False):
        tokens = ReceptiveTokens(4, 3, weigh)
        through, masks = tokens.attend(f)
        shares = tokens.shares(f) if weigh else torch.ones(2, 3)
        expected = sum(shares[:, k].view(2, 1, 1, 1) * masks[:, k].view(2, 1, 5, 6) * f for k in range(3))
        torch.testing.assert_close(through, expected)


def test_every_kind_of_tap(teacher: nn.Module, det: Config) -> None:
    batch = seg_batch(teacher)
    teacher.data_preprocessor = Raw()
    found = learn_tokens(teacher, [batch], ["decode_head.conv_seg:in", "decode_head.conv_seg"], iterations=2)
    assert [tokens.tokens.shape for tokens in found.values()] == [(6, 16), (6, 11)]
    model, _ = build_model(det)
    batch = det_batch(model)
    model.data_preprocessor = Raw()
    found = learn_tokens(model, [batch], ["neck:0", "neck:3"], iterations=2, lr=1e-3)
    assert all(tokens.tokens.isfinite().all() and tokens.score.weight.grad is not None for tokens in found.values())


def test_what_cannot_be(teacher: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"tap 'backbone' yields .* tokens need one map"):
        learn_tokens(teacher, [], ["backbone"])
    with pytest.raises(ValueError, match="no batch to learn tokens from"):
        learn_tokens(teacher, [], ["decode_head.bottleneck"])


def test_the_tool_writes_what_the_loss_reads(
    taught: Callable[..., Distiller], seg_teacher: dict[str, str], tmp_path: Path
) -> None:
    tokens.main(
        [seg_teacher["teacher"], "--checkpoint", seg_teacher["checkpoint"], "--out", str(tmp_path), "--iterations", "2"]
    )
    path = tmp_path / "decode_head.bottleneck.safetensors"
    entry = {"loss": {"type": "maskd", "learned": str(path)}, "student": "decode_head.bottleneck"}
    model = taught(entry)
    losses = model(**seg_batch(model), mode="loss")
    losses["distill.loss_maskd"].backward()
    assert model.decode_head.bottleneck.conv.weight.grad.abs().sum() > 0
