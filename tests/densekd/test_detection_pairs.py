"""What the configs of published pairs of detectors say."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from densekd import Distiller
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.pairs import ROWS

from .conftest import det_batch

NAMES = sorted(name for name, row in ROWS.items() if name.startswith("det/") and "/tables/" not in row.base)
OF_HEADS = [name for name in NAMES if name.split("/")[1] in ("crosskd", "fbkd", "ld") and "x101" not in name]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_config_says(name: str) -> None:
    config = read_config(name)
    assert config.model.checkpoint is None  # a path to be given
    assert {"data", "teacher", "student", "source"} <= set(config.published)
    assert config.published.student[1] < config.published.get("distilled", config.published.teacher[1])
    assert config.reported_on
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_HEADS)
def test_two_steps_of_a_pair_on_stand_ins(name: str) -> None:
    """At full width, on images with boxes and on images without."""
    config = read_config(name)
    with DefaultScope.overwrite_default_scope("mmdet"):
        student, teacher = (build_model(each)[0] for each in (config.model.student, config.model.teacher))
        model = Distiller(student=student, teacher=teacher, method=config.model.method)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = [parameter.clone() for parameter in teacher.parameters()]
    batch = det_batch(model)
    for empty in (False, True):
        for sample in batch["data_samples"] if empty else ():
            sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        losses = model(**batch, mode="loss")
        total, logged = model.parse_losses(losses)
        wrapper.update_params(total)
        assert all(value.isfinite().all() for value in logged.values())
        terms = [value for key, value in logged.items() if "distill." in key]
        assert terms
        assert empty or all(value > 0 for value in terms)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), before))
