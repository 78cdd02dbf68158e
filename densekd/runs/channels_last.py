"""The hook that puts channels last in memory."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from densekd.registry import HOOKS


@HOOKS.register_module()
class ChannelsLast(Hook):
    """Keep the weights of 2d convolutions, and so the maps between them, with channels last in memory.

    Shapes and losses stay; sums run in another order, so the last digits of a run differ. Convolutions are often
    faster, on a CPU as on a GPU with AMP: measure yours. The teachers of a `densekd.Distiller` are converted, too.
    Checkpoints hold the same tensors under the same names.

        custom_hooks = [dict(type="densekd.ChannelsLast")]
    """

    def before_train(self, runner: Runner) -> None:  # after the weights were drawn, which goes in the order of memory
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        teachers = [getattr(each, "model", None) for each in getattr(model, "teachers", {}).values()]
        for network in [model, *teachers]:
            for layer in network.modules() if isinstance(network, nn.Module) else ():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
