"""Every config of a published pair: its entries fit the pair's own networks, at full width, and two steps teach."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample

from densekd import METHODS, Distiller
from densekd.context import classes_of
from densekd.methods import method_entries, name_of
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config

PAIRS: dict[str, list[Path]] = defaultdict(list)
for path in published.files():
    PAIRS[path.stem].append(path)
read = functools.cache(read_config)
SIDE = 64


def entries_of(path: Path, config: Config, student: torch.nn.Module, teacher: torch.nn.Module) -> list[dict[str, Any]]:
    """The entries of one config, called after it."""
    model = config.model
    entries = model.get("distills") or method_entries(model.method, student, teacher)
    for entry in entries:
        if isinstance(entry["loss"], dict) and entry["loss"]["type"] == "af_dcd":
            entry["loss"]["pool"] = 1  # maps of 8 x 8 have no patch once they are pooled
    return [{**entry, "name": f"{path.parent.name}_{i}_{path.stem}"} for i, entry in enumerate(entries)]


def batch_of(classes: int) -> dict[str, list[Any]]:
    """Two stand-in images of blocks of classes, with a void border."""
    samples = []
    for seed in range(2):
        draw = torch.Generator().manual_seed(seed)
        labels = torch.randint(classes, (1, SIDE // 16, SIDE // 16), generator=draw)
        labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
        labels[:, :4] = 255
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo={"img_shape": (SIDE, SIDE)}))
    return {"inputs": [torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8)] * 2, "data_samples": samples}


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_all_methods_of_a_pair_teach_its_student(pair: str, at: Callable[[float], None]) -> None:
    configs = {path: read(path) for path in PAIRS[pair]}
    first, *others = configs.values()
    with DefaultScope.overwrite_default_scope("mmseg"):
        student, teacher = build_model(first.model.student)[0], build_model(first.model.teacher)[0]
        entries = [entry for path, config in configs.items() for entry in entries_of(path, config, student, teacher)]
        before = [parameter.clone() for parameter in teacher.parameters()]
        model = revert_sync_batchnorm(Distiller(student=student, teacher=teacher, distills=entries))
        wrapper = build_optim_wrapper(model, first.optim_wrapper)
    model.data_preprocessor.size = (SIDE, SIDE)
    batch, head = batch_of(classes_of(model)[0]), model.decode_head.conv_seg
    started = [parameter.clone() for parameter in head.parameters()]
    greatest: dict[str, float] = defaultdict(float)
    for progress in (0.0, 0.9):  # methods in stages have another loss in each
        at(progress)
        logged = model.train_step(batch, wrapper)
        assert all(value.isfinite().all() for value in logged.values())
        for entry in entries:
            value = logged[f"distill.loss_{entry['name']}"].abs().item()  # a critic's may be negative
            greatest[entry["name"]] = max(greatest[entry["name"]], value)
    assert all(value > 0 for value in greatest.values()), greatest
    assert not any(torch.equal(a, b) for a, b in zip(head.parameters(), started))
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), before))
    for config in others:
        assert config.model.student == first.model.student
        assert config.model.teacher == first.model.teacher


@pytest.mark.parametrize("path", published.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_a_config_says(path: Path) -> None:
    config = read(path)
    assert name_of(config.model.get("method", "cwd")) in METHODS
    assert config.model.checkpoint is None  # a path to be given
    assert {"data", "teacher", "student", "source"} <= set(config.published)
    assert config.reported_on
    assert config.param_scheduler[-1].end >= config.train_cfg.max_iters
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None


def test_a_teacher_without_weights_is_refused() -> None:
    path = published.SEG / "cwd" / "segformer_b4_b0_cityscapes.py"
    options = {key: value for key, value in read(path).model.items() if key != "type"}
    with pytest.raises(ValueError, match=r"teacher 'teacher' has no weights: give checkpoint=\.\.\."):
        Distiller(**options)


def test_the_page_is_current() -> None:
    configs = {path.relative_to(published.SEG): read(path) for path in published.files()}
    assert published.page(configs) == (published.SEG / "README.md").read_text(), "python benchmarks/published.py"
