"""What the configs of published pairs of detectors say."""

from __future__ import annotations

import pytest
from mmdet.registry import DATASETS

from densekd.mmlab.config import read_config
from densekd.pairs import ROWS

NAMES = sorted(name for name in ROWS if name.startswith("det/"))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_config_says(name: str) -> None:
    config = read_config(name)
    assert config.model.checkpoint is None  # a path to be given
    assert {"data", "teacher", "student", "source"} <= set(config.published)
    assert config.published.student[1] < config.published.get("distilled", config.published.teacher[1])
    assert config.reported_on
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None
