"""Losses with a cache are those without it; the teacher sees each image once, then none; what cannot be is refused."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import nn

from densekd import Distiller, distill, prepare, train
from densekd.cache.fill import Filled, use
from densekd.cache.geometry import Place
from densekd.cache.store import SHARD, Row, Store, largest, spread
from densekd.cache.teacher import CachedTeacher, CacheOptions
from densekd.datasets import DigitScenesSeg
from densekd.hub.features import Features
from densekd.mmlab.config import cache_in

from ..conftest import TinySegmenter

TAP = "decode_head.conv_seg"
ENTRIES = [{"loss": "kl", "student": TAP}, {"loss": "cwd", "student": "backbone:0"}]
CROPS: list[dict[str, Any]] = [
    {"type": "RandomResize", "scale": (64, 64), "ratio_range": (0.8, 1.25)},
    {"type": "RandomCrop", "crop_size": (48, 48)},
    {"type": "RandomFlip", "prob": 0.5},
]


class Training:
    """A tiny student and its teacher, with a data set; what a training does before and in a step, without a runner."""

    def __init__(self, transforms: list[dict[str, Any]], cache: Any = None, entries: Any = ENTRIES, **teacher: Any):
        torch.manual_seed(1)
        self.teacher = teacher.pop("teacher", None) or TinySegmenter(channels=11, classes=11, width=6)
        torch.manual_seed(0)
        options = {"teacher_cache": cache} if cache else {}
        self.model = Distiller(TinySegmenter(channels=11, classes=11), self.teacher, entries, **options)
        self.seen = 0
        self.teacher.register_forward_pre_hook(self._count)
        self.data = DigitScenesSeg(count=teacher.pop("count", 16), size=64, pipeline=[])
        import mmseg.datasets  # noqa: F401 - registers the transforms

        with DefaultScope.overwrite_default_scope("mmseg"):
            steps = [*transforms, {"type": "PackSegInputs"}]
            self.data.pipeline.transforms = [TRANSFORMS.build(step) for step in steps]

    def _count(self, module: Any, args: Any) -> None:
        self.seen += len(args[0])

    def open(self) -> Filled:
        return use(self.cached, self.data, self.model.data_preprocessor)

    @property
    def cached(self) -> CachedTeacher:
        teacher = self.model.teachers["teacher"]
        assert isinstance(teacher, CachedTeacher)
        return teacher

    def losses(self, images: tuple[int, ...] = (0, 5, 7)) -> dict[str, float]:
        np.random.seed(3)  # noqa: NPY002 - the generator that the transforms draw from
        samples = [self.data[i] for i in images]
        batch = {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}
        found = self.model(**self.model.data_preprocessor(batch, True), mode="loss")
        return {key: float(value.detach()) for key, value in found.items() if "loss" in key}


def test_losses_are_those_without_a_cache(tmp_path: Path) -> None:
    online = Training([])
    expected = online.losses()
    assert online.seen == 3
    for dtype, tolerance in (("float16", 2e-3), ("float32", 1e-6)):
        cached = Training([], {"path": str(tmp_path / dtype), "dtype": dtype})
        told = cached.open()
        assert (told.images, cached.seen) == (16, 16)
        assert cached.losses() == pytest.approx(expected, rel=tolerance)
        assert cached.seen == 16
        again = Training([], {"path": str(tmp_path / dtype), "dtype": dtype})
        assert (again.open().images, again.seen) == (0, 0)
        assert again.losses() == cached.losses()
        assert told.megabytes == pytest.approx(
            16 * 32 * 32 * (11 + 6) * (2 if dtype == "float16" else 4) / 2**20, rel=0.1
        )


@pytest.mark.parametrize("options", [{"multiple": 14}, {"square": 112}])
def test_a_teacher_that_resizes_its_images(tmp_path: Path, options: dict[str, int]) -> None:
    """A map of 14 pixels of the resized image is one of 14.3 or 12.5 pixels of the student's."""

    def features() -> Features:
        torch.manual_seed(2)
        return Features("patches", nn.Conv2d(3, 6, 14, stride=14), **options)

    entries = [{"loss": "mse", "student": "backbone:0", "teacher": "maps"}]
    transforms = [{"type": "Resize", "scale": (100, 75)}]
    online = Training(transforms, entries=entries, teacher=features())
    cached = Training(transforms, {"path": str(tmp_path), "dtype": "float32"}, entries, teacher=features())
    cached.open()
    assert cached.losses() == pytest.approx(online.losses(), rel=1e-6)
    assert cached.seen == 16


def test_a_teacher_without_borders_is_the_same_under_crops_and_flips(tmp_path: Path) -> None:
    """One that looks at one pixel at a time knows of no border: with crops at whole positions the losses are equal."""

    class Pointwise(TinySegmenter):
        def __init__(self) -> None:
            super().__init__(channels=11, classes=11, width=6)
            self.backbone.stem = torch.nn.Conv2d(3, 6, 1)
            self.decode_head.convs[0].conv = torch.nn.Conv2d(6, 6, 1, bias=False)

    moves = [{"type": "RandomCrop", "crop_size": (48, 40)}, {"type": "RandomFlip", "prob": 0.5}]
    teacher = Pointwise()
    online, cached = (
        Training(moves, cache, [{"loss": "kl", "student": TAP}], teacher=copy.deepcopy(teacher))
        for cache in (None, {"path": str(tmp_path), "dtype": "float32"})
    )
    cached.open()
    assert cached.losses(tuple(range(16))) == pytest.approx(online.losses(tuple(range(16))), rel=1e-5)


def test_augmented_losses_are_close(tmp_path: Path) -> None:
    """Where online the teacher sees a crop, and here the whole image, they differ, but little."""
    online, cached = Training(CROPS), Training(CROPS, str(tmp_path))
    cached.open()
    expected, found = online.losses(), cached.losses()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=0.25 if "distill" in key else 1e-6)
    assert found["distill.loss_kl"] != expected["distill.loss_kl"]


def test_methods_share_a_cache_and_another_teacher_is_refused(tmp_path: Path) -> None:
    assert Training([], str(tmp_path), ENTRIES[:1]).open().images == 16
    assert Training([], str(tmp_path), [{"loss": "dist", "student": TAP}]).open().images == 0
    both = Training([], str(tmp_path))
    assert both.open().images == 16  # of the other tap
    other = Training([], str(tmp_path))
    with torch.no_grad():
        other.teacher.decode_head.conv_seg.bias += 1
    changed = Training([], str(tmp_path), teacher=other.teacher)
    with pytest.raises(ValueError, match=r"weights .* there, .* here") as caught:
        changed.open()
    assert "pipeline" not in str(caught.value)
    with pytest.raises(ValueError, match="pipeline"):
        Training([{"type": "Resize", "scale": (32, 32)}], str(tmp_path)).open()
    with pytest.raises(ValueError, match="data"):
        Training([], str(tmp_path), count=12).open()


def test_what_cannot_be_replayed_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(ValueError, match="RandomRotate"):
        Training([{"type": "RandomRotate", "prob": 1.0, "degree": 10}], str(folder)).open()
    student, teacher = TinySegmenter(channels=11, classes=11), TinySegmenter(channels=11, classes=11)
    for given, error, words in (
        ({"topk": 11}, ValueError, "less than the 11"),
        ({"top_k": 3}, TypeError, "topk"),
        ({"dtype": "int8"}, ValueError, "float16"),
    ):
        with pytest.raises(error, match=words):
            Distiller(student, teacher, ENTRIES, teacher_cache={"path": str(folder), **given})
    with pytest.raises(ValueError, match="changes during the training"):
        Distiller(TinySegmenter(channels=11, classes=11), "ema", ENTRIES, teacher_cache=str(folder))
    closed = Training([], str(folder))
    with pytest.raises(ValueError, match="TeacherCache"):
        closed.losses()
    closed.open()
    with pytest.raises(ValueError, match="comes from elsewhere"):
        closed.cached.run(torch.zeros(1, 3, 64, 64), [closed.data[0]["data_samples"].__class__()], [TAP])
    assert closed.model.teachers["teacher"] is closed.cached


def test_a_killed_filling_goes_on(tmp_path: Path) -> None:
    """Shards that are there are not computed again; a damaged one says so."""
    first = Training([], str(tmp_path), count=66)
    assert first.open().images == 66
    assert first.cached.stores is not None
    store = first.cached.stores[TAP]
    shards = sorted(store.folder.glob("shard-*"))
    assert [each.name for each in shards] == ["shard-000000000", "shard-000000064"]
    before = store.read(65).levels[0]
    for file in shards[1].iterdir():
        file.unlink()
    shards[1].rmdir()
    second = Training([], str(tmp_path), count=66)
    assert second.open().images == 2
    assert second.cached.stores is not None
    assert torch.equal(second.cached.stores[TAP].read(65).levels[0], before)
    array = shards[0] / "level0.npy"
    array.write_bytes(array.read_bytes()[:-8])
    third = Training([], str(tmp_path), count=66)
    third.open()
    with pytest.raises(ValueError, match=r"level0\.npy"):
        third.losses()


def test_processes_share_the_filling(tmp_path: Path) -> None:
    parts = [Training([], str(tmp_path), count=66) for _ in range(2)]
    seen = [
        use(each.cached, each.data, each.model.data_preprocessor, rank, 2).images for rank, each in enumerate(parts)
    ]
    assert seen[0] + seen[1] == 66
    assert parts[0].losses((0, 64, 65)) == parts[1].losses((0, 64, 65))


def test_the_largest_logits_keep_their_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(20, 4, 5, dtype=torch.float64)
    values, classes = largest(logits, 3)
    found, expected = spread(values, classes, 20).softmax(0), logits.softmax(0)
    torch.testing.assert_close(found.gather(0, classes), expected.gather(0, classes))
    torch.testing.assert_close(found.sum(0), torch.ones(4, 5, dtype=torch.float64))
    assert len({round(float(p), 9) for p in found[:, 0, 0]}) == 4  # three, and the share of each of the others
    whole, few = (Training([], {"path": str(tmp_path / str(k)), "topk": k}, ENTRIES[:1]) for k in (0, 5))
    sizes = [each.open().megabytes for each in (whole, few)]
    assert sizes[1] == pytest.approx(sizes[0] * (6 * 2 + 5) / 22, rel=0.1)
    assert few.losses()["distill.loss_kl"] == pytest.approx(whole.losses()["distill.loss_kl"], rel=0.5)


def test_a_store_refuses_what_float16_cannot_hold(tmp_path: Path) -> None:
    store = Store(tmp_path, "teacher-head", {"weights": "a"}, images=1)
    with pytest.raises(ValueError, match="float32"):
        store.write(0, [Row(Place(), [torch.full((2, 3, 3), 1e5)])])
    Store(tmp_path, "teacher-head", {"weights": "a"}, 1, dtype="float32").write(
        0, [Row(Place(), [torch.full((2, 3, 3), 1e5)])]
    )
    with pytest.raises(ValueError, match=r"dtype 'float32' there, 'float16' here"):
        Store(tmp_path, "teacher-head", {"weights": "a"}, images=1)


def test_open_shards_hold_no_file_open(tmp_path: Path) -> None:
    """A large training set has more shards than a process may have open files."""
    store = Store(tmp_path, "teacher-head", {}, images=3 * SHARD)
    maps = [[torch.rand(2, 3, 3), torch.rand(2, 1, 1)] for _ in range(3 * SHARD)]
    for start in store.missing():
        store.write(start, [Row(Place(), levels) for levels in maps[start : start + SHARD]])
    before = len(os.listdir("/dev/fd"))
    for image in (0, SHARD + 1, 3 * SHARD - 1):
        for found, written in zip(store.read(image).levels, maps[image]):
            torch.testing.assert_close(found, written, rtol=1e-3, atol=1e-3)
    assert len(os.listdir("/dev/fd")) == before


def test_of_two_processes_that_fill_one_shard_the_first_stands(tmp_path: Path) -> None:
    for value in (1.0, 2.0):  # one that is read in another process is not taken from it
        Store(tmp_path, "teacher-head", {}, images=1).write(0, [Row(Place(), [torch.full((1, 1, 1), value)])])
        assert Store(tmp_path, "teacher-head", {}, images=1).read(0).levels[0].item() == 1.0
    assert len([*(tmp_path).glob("*/*")]) == 2  # no draft is left


def test_a_damaged_shard_is_found_when_the_store_is_opened(tmp_path: Path) -> None:
    store = Store(tmp_path, "teacher-head", {}, images=SHARD + 1)
    for start, count in ((0, SHARD), (SHARD, 1)):
        store.write(start, [Row(Place(), [torch.rand(2, 3, 3)])] * count)
    store.open()
    (level,) = store.folder.glob(f"shard-*{SHARD}/level0.npy")
    level.write_bytes(level.read_bytes()[:-2])
    with pytest.raises(ValueError, match=rf"shard-0*{SHARD} is missing or damaged .*: delete it, the next run writes"):
        Store(tmp_path, "teacher-head", {}, images=SHARD + 1).open()


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_teacher_that_yields_nan_is_not_told_to_use_float32(tmp_path: Path, value: float) -> None:
    with pytest.raises(FloatingPointError, match=r"yields NaN or infinity for a training image, at teacher-head"):
        Store(tmp_path, "teacher-head", {}, images=1).write(0, [Row(Place(), [torch.full((2, 3, 3), value)])])


def test_a_folder_of_the_command_line_keeps_the_options_of_the_config(seg: Config) -> None:
    taught = distill(seg, teacher="a.py", method="cwd", teacher_cache=dict(path="cache", topk=5))
    cache_in(taught, "~/other")
    assert CacheOptions.parse(taught.model.teacher_cache) == (str(Path.home() / "other"), 5, "float16")
    with pytest.raises(ValueError, match="needs the name of a folder"):
        cache_in(taught, "")


def test_levels_of_a_detector(det: Config, det_teacher: dict[str, str], tmp_path: Path) -> None:
    """Images are padded to a multiple of 32: each level of the neck is what it is online."""
    from densekd.registry import DATASETS

    options = {**det_teacher, "distills": [{"loss": "mse", "student": "neck"}]}
    models = []
    for cache in ({}, {"teacher_cache": {"path": str(tmp_path), "dtype": "float32"}}):
        torch.manual_seed(0)
        models.append(Distiller(det, **options, **cache))
    load, _, _, pack = det.train_dataloader.dataset.pipeline
    pipeline = [load, {"type": "Resize", "scale": (80, 80), "keep_ratio": True}, pack]
    with DefaultScope.overwrite_default_scope("mmdet"):
        data = DATASETS.build({**det.train_dataloader.dataset, "count": 3, "size": 96, "pipeline": pipeline})
    teacher = models[1].teachers["teacher"]
    assert isinstance(teacher, CachedTeacher)
    assert use(teacher, data, models[1].data_preprocessor).images == 3
    batch = {key: [data[i][key] for i in (2, 0)] for key in ("inputs", "data_samples")}
    found = []
    for model in models:
        ready = model.data_preprocessor(copy.deepcopy(batch), True)
        found.append(float(model(**ready, mode="loss")["distill.loss_mse"].detach()))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert len(teacher.strides["neck"]) > 1


def test_a_training_fills_its_cache_and_ends_as_one_that_finds_it(
    seg: Config, seg_teacher: dict[str, str], tmp_path: Path
) -> None:
    seen = []

    def trained(name: str) -> list[dict[str, float]]:
        config = copy.deepcopy(seg)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 2, "val_interval": 99}
        config.experiment_name = f"{tmp_path.name}-{name}"
        taught = distill(config, **seg_teacher, method="cwd", teacher_cache=str(tmp_path / "cache"))
        runner = train(prepare(taught, work_dir=tmp_path / name, seed=0))
        seen.extend(hook.told["images"] for hook in runner.hooks if hasattr(hook, "told"))
        (log,) = (tmp_path / name).rglob("scalars.json")
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        return [{key: value for key, value in step.items() if "loss" in key} for step in steps]

    assert trained("first") == trained("second")
    assert seen == [16, 0]
