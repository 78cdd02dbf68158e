"""`sparse_scales`: scales of batch norms go to 0, so that channels can go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from densekd.checkpoint import read
from kdlosses.rules import prune_channels

from .small import net, scenes, trained
from .test_openmmlab import ran

DATA = scenes(12, 0)


def scales(model: Any) -> torch.Tensor:
    return model.body[1].weight.detach()


def test_each_step_pulls_as_the_formula_says() -> None:
    student = net(8)
    start = torch.tensor([1.0, -1.0, 0.9, 0.3, -0.2, 0.05, 0.005, 0.0])
    student.body[1].weight.data.copy_(start)
    found = trained(student, None, scenes(24, 0), [dict(type="sparse_scales", rate=0.6, near=0.1)], lr=1e-12, epochs=1)
    expected, steps = start.double().numpy(), 24 // 4
    for t in range(steps):
        gone = (np.abs(expected) < 0.1).mean()
        pull = 0.6 / steps * (1 - np.cos(2 * np.pi * t / steps)) * (1 - gone)
        expected = np.sign(expected) * np.maximum(np.abs(expected) - pull, 0)
    np.testing.assert_allclose(scales(found.student), expected, atol=1e-6)
    assert (expected == 0).sum() > (start == 0).sum()


def accuracy(model: nn.Module) -> float:
    images, labels = (torch.stack(each) for each in zip(*scenes(24, 5)))
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == labels).float().mean().item()


def with_blind_channels(seed: int) -> nn.Module:
    """Twelve of sixteen channels see nothing, and have the greater scales."""
    torch.manual_seed(seed)
    student = net(16)
    student.body[0].weight.data[4:] = 0
    student.body[0].weight.requires_grad_(False)
    student.body[1].weight.data[4:] = 1.5
    return student


def test_scales_of_channels_that_the_task_does_not_need_go_so_that_the_right_ones_are_pruned() -> None:
    lost = {}
    for rate in (None, 2.0):
        policies = [] if rate is None else [dict(type="sparse_scales", rate=rate)]
        student = trained(with_blind_channels(0), None, scenes(192, 1), policies, epochs=1).student.eval()
        pruned = prune_channels(student, lambda net: net(torch.zeros(1, 3, 16, 16)), keep=0.25, least=1).model
        assert len(scales(pruned)) == 4
        lost[rate] = accuracy(student) - accuracy(pruned)
        assert (scales(student)[4:] < 0.01).all() == (rate is not None)
    assert abs(lost[2.0]) < 0.02
    assert lost[None] > 0.1


def test_in_a_run_of_openmmlab_scales_go_and_frozen_ones_stay(seg: Config, tmp_path: Path) -> None:
    seg.model.backbone.update(frozen_stages=1)
    runner, _ = ran(seg, tmp_path, [dict(type="sparse_scales", rate=30)], steps=3)
    state = read(tmp_path)["state_dict"]
    for name, module in runner.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight.requires_grad:
            # what the optimiser moved it by since the last pull is left of it
            assert state[f"{name}.weight"].abs().max() < 0.2, name
    assert not runner.model.backbone.stem[1].weight.requires_grad
    assert (state["backbone.stem.1.weight"] == 1).all()


@pytest.mark.parametrize("options", [dict(rate=0.0), dict(near=-0.1)])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is a positive number"):
        trained(net(), None, DATA, [dict(type="sparse_scales", **options)])


def test_a_student_without_scales_is_refused() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False))
    with pytest.raises(ValueError, match="Sequential has no batch norm whose scales are learned"):
        trained(plain, None, DATA, ["sparse_scales"])
