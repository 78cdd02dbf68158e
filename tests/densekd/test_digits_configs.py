"""Every distiller config on the digit scenes: it builds, and a step at each third of the training teaches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller
from densekd.methods import name_of
from densekd.mmlab.config import read_config
from densekd.shipped import CONFIGS

PATTERNS = "seg/*/digits", "seg/*/scenes", "seg/*/scenes_???", "det/*/digits", "det/*/digits_masks"
FOUND = sorted(CONFIGS.find(name) for pattern in PATTERNS for name in CONFIGS.matching(pattern))
OF_NO_DISTILLER = ("mean_teacher", "lpld", "wscol", "soft_teacher", "ezad", "ovarnet")
"""See `models/test_mean_teacher.py`, `models/test_ezad.py` and `models/test_ovarnet.py`."""
PATHS = [path for path in FOUND if path.parts[-2] not in OF_NO_DISTILLER]


@pytest.mark.parametrize("path", PATHS, ids=[f"{path.parts[-3]}-{path.parts[-2]}-{path.stem}" for path in PATHS])
def test_a_step_of_each_third_of_the_training(path: Path) -> None:
    config = read_config(path)
    config.model.pop("type")
    if "method" in config.model and name_of(config.model.method) == "lelp":
        config.model.method.fit_steps = 1  # 0 until its subclasses are found
    config.train_dataloader.batch_size = 2
    hub = MessageHub.get_instance("test_digits_configs")
    seen: dict[str, list[float]] = {}
    try:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model = Distiller(**config.model, checkpoint="random")
            batches = iter(Runner.build_dataloader(config.train_dataloader, seed=0))
            for progress in (0, 1, 2):
                hub.update_info_dict({"iter": progress, "max_iters": 3})
                losses = model(**model.data_preprocessor(next(batches), training=True), mode="loss")
                total, values = model.parse_losses(losses)
                model.zero_grad()
                total.backward()
                assert all(
                    p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad
                )
                for key in losses:
                    seen.setdefault(key, []).append(values[key].item())
    finally:
        MessageHub._instance_dict.pop("test_digits_configs")
    terms = {f"distill.loss_{name}" for name in model.distill if name != "peers"}
    assert terms
    assert terms <= set(seen)
    for key in terms:
        assert len(seen[key]) == 3  # a term that is off keeps its place in the log
        assert max(seen[key]) > 0, key
    assert torch.isfinite(torch.tensor(list(seen.values()))).all()
