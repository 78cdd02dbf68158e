"""What only a GPU can show; deselected by default."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from densekd import Distiller

from .conftest import seg_batch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("teacher", [{}, {"teacher": "ema", "checkpoint": None}], ids=["frozen", "moving average"])
def test_a_step_under_autocast(taught: Callable[..., Distiller], teacher: dict) -> None:
    entries = [{"loss": "cwd", "student": "decode_head.conv_seg"}, {"loss": "mse", "student": "backbone:2"}]
    model = taught(*entries, **teacher).cuda().train()
    assert next(model.teachers["teacher"].model.parameters()).is_cuda
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            losses = model(**seg_batch(model), mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
        optimizer.step()
    assert torch.isfinite(total)
