"""Trainings with a cache: the teacher runs once for each image, then never again, and the losses are those without."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from densekd import Distiller, distill, prepare, train
from densekd.cache.fill import use
from densekd.cache.store import Store, largest, spread
from densekd.cache.teacher import CachedTeacher

PLAIN = [{"type": "PackSegInputs"}]
ENTRIES = [{"loss": "kl", "student": "decode_head.conv_seg"}, {"loss": "cwd", "student": "backbone:2"}]


class Counted:
    """Counts the images that teachers see, in all models that are built while it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0
        from densekd.teacher import Teacher

        plain = Teacher.run

        def run(teacher: Any, inputs: Any, samples: Any, specs: Any) -> Any:
            self.images += len(inputs)
            return plain(teacher, inputs, samples, specs)

        monkeypatch.setattr(Teacher, "run", run)


@pytest.fixture
def trained(
    seg: Config, seg_teacher: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[dict[str, float]], int]]:
    """Train with some transforms before the packing, and return what was logged for each step, and how many images the
    teacher saw.
    """

    def run(transforms: list[dict[str, Any]], name: str, **options: Any) -> tuple[list[dict[str, float]], int]:
        config = copy.deepcopy(seg)
        config.train_dataloader.dataset.pipeline = [*transforms, *PLAIN]
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 3, "val_interval": 99}
        config.default_scope = "mmseg"
        config.experiment_name = f"{tmp_path.name}-{name}"
        taught = {**seg_teacher, **({} if "method" in options else {"distills": ENTRIES}), **options}
        counted = Counted(monkeypatch)
        train(prepare(distill(config, **taught), work_dir=tmp_path / name, seed=0))
        (log,) = (tmp_path / name).rglob("scalars.json")
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        return [{key: value for key, value in step.items() if "loss" in key} for step in steps], counted.images

    return run


def test_losses_are_those_without_a_cache(trained: Any, tmp_path: Path) -> None:
    online, each_step = trained([], "online")
    cached, first = trained([], "first", teacher_cache=str(tmp_path / "cache"))
    again, second = trained([], "second", teacher_cache=str(tmp_path / "cache"))
    assert (each_step, first, second) == (6, 16, 0)  # 3 steps of 2 images; 16 images once; nothing
    assert cached == again
    for step, other in zip(online, cached):
        assert step == pytest.approx(other, rel=2e-3)
    exact, _ = trained([], "exact", teacher_cache={"path": str(tmp_path / "exact"), "dtype": "float32"})
    for step, other in zip(online, exact):
        assert step == pytest.approx(other, rel=1e-5)


def test_augmented_losses_are_close(trained: Any, tmp_path: Path) -> None:
    """Where the online teacher sees a crop, and this one the whole image, they differ, but little."""
    transforms = [
        {"type": "RandomResize", "scale": (64, 64), "ratio_range": (0.8, 1.25)},
        {"type": "RandomCrop", "crop_size": (48, 48)},
        {"type": "RandomFlip", "prob": 0.5},
    ]
    online, _ = trained(transforms, "online")
    cached, seen = trained(transforms, "cached", teacher_cache=str(tmp_path / "cache"))
    assert seen == 16
    for step, other in zip(online, cached):
        supervised = [key for key in step if "distill" not in key and key != "loss"]
        assert len(supervised) == 2
        assert step["distill.loss_kl"] == pytest.approx(other["distill.loss_kl"], rel=0.3)
    # the first step: the same student on the same pixels
    assert online[0]["decode.loss_ce"] == pytest.approx(cached[0]["decode.loss_ce"], rel=1e-6)


def test_methods_share_a_cache_and_another_teacher_is_refused(
    trained: Any, tmp_path: Path, seg_teacher: dict[str, str]
) -> None:
    folder = str(tmp_path / "cache")
    assert trained([], "first", method="cwd", teacher_cache=folder)[1] == 16
    assert trained([], "second", method="dist", teacher_cache=folder)[1] == 0
    other = torch.load(seg_teacher["checkpoint"])
    other["state_dict"]["decode_head.conv_seg.bias"] += 1
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="weights .* there, .* here") as caught:
        trained([], "third", method="cwd", teacher_cache=folder, checkpoint=str(tmp_path / "other.pth"))
    assert "pipeline" not in str(caught.value)
    with pytest.raises(ValueError, match="pipeline"):
        trained([{"type": "Resize", "scale": (32, 32)}], "fourth", method="cwd", teacher_cache=folder)


def test_what_cannot_be_replayed_is_refused_by_name(trained: Any, tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    turns = [{"type": "RandomRotate", "prob": 1.0, "degree": 10}]
    with pytest.raises(ValueError, match="RandomRotate"):
        trained(turns, "turned", teacher_cache=folder)
    with pytest.raises(ValueError, match="changes during the training"):
        trained([], "average", teacher="ema", checkpoint=None, teacher_cache=folder)
    with pytest.raises(ValueError, match="less than 11 classes|less than the 11"):
        trained([], "all", teacher_cache={"path": folder, "topk": 11})
    with pytest.raises(TypeError, match="topk"):
        trained([], "misspelt", teacher_cache={"path": folder, "top_k": 3})
    assert not Path(folder).exists()


def test_a_killed_filling_goes_on(taught: Callable[..., Distiller], tmp_path: Path, seg: Config) -> None:
    """Shards that are there are not computed again; a damaged one says so."""
    from densekd.datasets import DigitScenesSeg

    def filled(count: int) -> tuple[CachedTeacher, int]:
        model = taught(*ENTRIES, teacher_cache=str(tmp_path))
        scenes = DigitScenesSeg(count=count, size=64, pipeline=[])
        from mmengine.registry import TRANSFORMS, DefaultScope

        with DefaultScope.overwrite_default_scope("mmseg"):
            scenes.pipeline.transforms = [TRANSFORMS.build(PLAIN[0])]
        teacher = model.teachers["teacher"]
        assert isinstance(teacher, CachedTeacher)
        return teacher, use(teacher, scenes, model.data_preprocessor).images

    teacher, images = filled(130)
    assert images == 130
    assert teacher.stores is not None
    folder = teacher.stores["backbone:2"].folder
    shards = sorted(folder.glob("shard-*"))
    assert [each.name for each in shards] == ["shard-000000000", "shard-000000064", "shard-000000128"]
    before = teacher.stores["backbone:2"].read(129).levels[0]
    for file in shards[2].iterdir():
        file.unlink()
    shards[2].rmdir()
    teacher, images = filled(130)
    assert images == 2
    assert teacher.stores is not None
    assert torch.equal(teacher.stores["backbone:2"].read(129).levels[0], before)
    array = folder / "shard-000000000" / "level0.npy"
    array.write_bytes(array.read_bytes()[:-8])
    teacher, _ = filled(130)
    assert teacher.stores is not None
    with pytest.raises(ValueError, match="level0.npy"):
        teacher.stores["backbone:2"].read(3)


def test_the_largest_logits_keep_their_probabilities() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(20, 4, 5, dtype=torch.float64)
    values, classes = largest(logits, 3)
    found, expected = spread(values, classes, 20).softmax(0), logits.softmax(0)
    for k in range(3):
        torch.testing.assert_close(found.gather(0, classes[k : k + 1]), expected.gather(0, classes[k : k + 1]))
    torch.testing.assert_close(found.sum(0), torch.ones(4, 5, dtype=torch.float64))
    assert len({round(float(p), 9) for p in found[:, 0, 0]}) == 4  # three, and the share of each of the others


def test_a_store_refuses_what_float16_cannot_hold(tmp_path: Path) -> None:
    from densekd.cache.geometry import Place
    from densekd.cache.store import Row

    store = Store(tmp_path, "teacher-head", {"weights": "a"}, images=1)
    with pytest.raises(ValueError, match="float32"):
        store.write(0, [Row(Place(), [torch.full((2, 3, 3), 1e5)])])
    (tmp_path / "other").mkdir()
    os.rename(tmp_path / "other", store.folder) if not store.folder.exists() else None
