"""Channels last in memory: sums in another order, else the same run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from densekd import distill, prepare, train
from densekd.checkpoint import read


class Seen(Hook):
    """The losses of each step, and whether maps in the student and in its teacher have their channels last."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.last: list[bool] = []

    def before_train(self, runner: Any) -> None:
        for network in (runner.model, *(each.model for each in runner.model.teachers.values())):
            for layer in network.backbone.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(self.look)

    def look(self, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if output[0, 0].numel() > 1:  # of one position, both orders are one
            self.last.append(output.stride(1) == 1)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append(outputs["loss"].item())


def test_it_is_the_same_run(seg: Config, seg_teacher: dict[str, str], tmp_path: Path) -> None:
    taught = distill(copy.deepcopy(seg), **seg_teacher, method="cwd")
    taught.train_cfg.update(max_iters=2, val_interval=100)
    losses = {}
    for hooks in ([], [dict(type="densekd.ChannelsLast")]):
        config = copy.deepcopy(taught)
        config.update(custom_hooks=hooks, experiment_name=f"last-{len(hooks)}")
        seen = Seen()
        train(prepare(config, work_dir=tmp_path / str(len(hooks)), seed=0), [seen])
        assert {*seen.last} == {bool(hooks)}
        losses[bool(hooks)] = seen.losses
    assert len(losses[True]) == 2
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-3, atol=0)
    init_default_scope("mmseg")
    plain = MODELS.build(seg.model)
    weights = read(tmp_path / "1" / "iter_2.pth")["state_dict"]
    assert not plain.load_state_dict(weights).missing_keys
    assert all(value.is_contiguous() for value in plain.state_dict().values())


def test_other_layers_stay(seg: Config) -> None:
    """3d convolutions know no such order of four axes."""
    from densekd.runs.channels_last import ChannelsLast

    class Runner:
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3), nn.Linear(3, 4))

    ChannelsLast().before_train(Runner())  # type: ignore[arg-type]
    assert Runner.model[0].weight.stride(1) == 1
    assert Runner.model[1].weight.is_contiguous()
