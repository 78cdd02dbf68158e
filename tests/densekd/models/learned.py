"""A detector of mmdet that has learned for a few steps, from scratch."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd.registry import MODELS


def learned(config: Config, steps: int) -> Any:
    """Train the model of a config on its training data."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model)
        batches = iter(Runner.build_dataloader(config.train_dataloader, seed=0))
    model.init_weights()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    model.train()
    for _ in range(steps):
        total, _ = model.parse_losses(model(**model.data_preprocessor(next(batches), True), mode="loss"))
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimiser.step()
        schedule.step()
    return model.eval()
