"""What a cache of a dense teacher saves: three methods with and without it, the same seeds, one after the other.

    python benchmarks/dense_cache.py                the tables of the logs in results/dense_cache
    python benchmarks/dense_cache.py --run          train what is missing first, in about ten minutes of one core
    python benchmarks/dense_cache.py --step         measure first what one step costs, and how far the outputs differ

A teacher (a ResNet-18 of half width) and a student of half its width, on 1,000 digit scenes, 64 x 64, resized by chance
and cropped. The control is trained once. Seconds are those of the processor, which other programs do not change; those
that filling the cache took are in the run that filled it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope

from densekd import Distiller, distill, read_config
from densekd.cache.fill import use
from densekd.cache.teacher import CachedTeacher
from densekd.cli import compare, train
from densekd.registry import DATASETS
from densekd.runs.resume import last_whole_checkpoint
from kdlosses.cli.logs import SCHEMA, Log, commit, read, write
from kdlosses.cli.report import spread

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ROOT / "configs" / "seg" / "plain"
STUDENT, TEACHER = PLAIN / "semantic_fpn_r18_w16_crops.py", PLAIN / "semantic_fpn_r18_w32_crops.py"
METHODS = ("cwd", "pkd", "dist")
RESULTS, WORK = ROOT / "results" / "dense_cache", Path("work_dirs") / "dense_cache"


def run(seeds: int) -> None:
    """Train the teacher, then control and students, without the cache and with it."""
    if last_whole_checkpoint(WORK / "teacher") is None:
        train.main([str(TEACHER), "--control", "--seed", "0", "--work-dir", str(WORK / "teacher")])
    call = [str(STUDENT), "--teacher", str(TEACHER), "--checkpoint", str(WORK / "teacher"), "--seeds", str(seeds)]
    call += ["--methods", *METHODS]
    for name, more in (("online", []), ("cached", ["--teacher-cache", str(WORK / "cache")])):
        compare.main([*call, *more, "--out", str(RESULTS / name), "--work-dir", str(WORK / name)])
        (RESULTS / "cached").mkdir(exist_ok=True)
        for log in (RESULTS / "online").glob("[ct]*r*-seed*.json"):  # control and teacher are those of both
            if read(log)[0]["role"] != "distilled":
                shutil.copy(log, RESULTS / "cached")


def table(results: Path) -> str:
    """The rows of both ways, method by method, as a Markdown table."""
    online, cached = ({(log["method"], log["role"], log["seed"]): log for log in read(results / way)} for way in WAYS)
    lines = [
        "| method | seeds | mIoU online | mIoU cached | difference | seconds online | seconds cached "
        "| teacher sees, online | cached |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    (teacher,) = (log for log in online.values() if log["role"] == "teacher")
    lines.append(f"| teacher, supervised | 1 | {teacher['metrics']['mIoU']:.1f} | | | | | | |")
    for method, role in (("supervised", "control"), *((each, "distilled") for each in METHODS)):
        keys = sorted(key for key in online.keys() & cached.keys() if key[:2] == (method, role))
        pairs = [(online[key], cached[key]) for key in keys]
        paired = [b["metrics"]["mIoU"] - a["metrics"]["mIoU"] for a, b in pairs]
        cells = [spread([pair[i]["metrics"]["mIoU"] for pair in pairs]) for i in (0, 1)]
        cells.append(spread(paired, "+.2f"))
        cells += [", ".join(f"{pair[i]['cpu_seconds']:.0f}" for pair in pairs) for i in (0, 1)]
        if role == "distilled":
            cells += [", ".join(f"{pair[i]['teacher_forwards']:,}" for pair in pairs) for i in (0, 1)]
        else:
            cells += ["", ""]
        lines.append(f"| {role if role == 'control' else method} | {len(pairs)} | {' | '.join(cells)} |")
    filled = [log["teacher_cache"] for log in cached.values() if log.get("teacher_cache", {}).get("images")]
    told = "; ".join(f"{each['images']:.0f} images in {each['seconds']:.0f} s" for each in filled)
    size = max(log["teacher_cache"]["megabytes"] for log in cached.values() if "teacher_cache" in log)
    lines += ["", f"The cache was filled with {told}; the largest tap takes {size:.1f} MiB on disk."]
    return "\n".join(lines)


WAYS = ("online", "cached")


AUGMENTATIONS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "flip": [{"type": "RandomFlip", "prob": 1.0}],
    "crop, 48 x 48": [{"type": "RandomCrop", "crop_size": (48, 48)}],
    "resize, 1 to 1.3": [{"type": "RandomResize", "scale": (64, 64), "ratio_range": (1.0, 1.3)}],
    "resize and crop, as in the table": [
        {"type": "RandomResize", "scale": (64, 64), "ratio_range": (1.0, 1.3)},
        {"type": "RandomCrop", "crop_size": (64, 64)},
    ],
}


def step(repeats: int = 7, images: int = 16) -> list[Log]:
    """Measure, for each method and augmentation, what a step of 8 images takes, and how far the outputs differ.

    The time is that of the teacher's forward pass and of reading its cache, in ms of the processor; the difference is
    ||cached - online|| / ||online||, over all positions and channels of a tap, its largest over the taps.
    """
    logs: list[Log] = []
    for method in METHODS:
        for name, transforms in AUGMENTATIONS.items():
            with DefaultScope.overwrite_default_scope("mmseg"), tempfile.TemporaryDirectory() as folder:
                times = repeats if "table" in name else 0
                logs.append({"augmentation": name, **_measured(method, transforms, folder, times, images)})
    made = {"schema": SCHEMA, "side": "seg", "name": "dense_cache", "role": "step", "commit": commit()}
    return [{**made, **log} for log in logs]


def _measured(method: str, transforms: list[dict[str, Any]], folder: str, repeats: int, images: int) -> Log:
    config = read_config(STUDENT)
    weights = last_whole_checkpoint(WORK / "teacher")
    taught = distill(read_config(STUDENT), teacher=str(TEACHER), method=method, checkpoint=str(weights or "random"))
    options = {key: value for key, value in taught.model.items() if key != "type"}
    model = Distiller(**options, teacher_cache=folder)
    teacher = model.teachers["teacher"]
    assert isinstance(teacher, CachedTeacher)
    pipeline = [*transforms, {"type": "PackSegInputs"}]
    data = DATASETS.build({**config.train_dataloader.dataset, "count": images, "pipeline": pipeline})
    told = use(teacher, data, model.data_preprocessor)
    samples = [data[i] for i in range(images)]
    if "RandomCrop" not in str(transforms):  # images of several sizes are no batch without padding
        samples = [sample for sample in samples if sample["inputs"].shape == samples[0]["inputs"].shape]
    squares: dict[str, list[float]] = {tap: [0.0, 0.0] for tap in teacher.strides}
    seconds: dict[str, list[float]] = {"online": [], "cached": []}
    for start in range(0, len(samples), 8):
        group = samples[start : start + 8]
        batch = {key: [sample[key] for sample in group] for key in ("inputs", "data_samples")}
        batch = model.data_preprocessor(batch, True)
        call = batch["inputs"], batch["data_samples"], list(teacher.strides)
        for tap, sums in squares.items():
            for online, cached in zip(teacher.online.run(*call)[tap], teacher.run(*call)[tap]):
                sums[0] += float((online - cached).square().sum())
                sums[1] += float(online.square().sum())
        for _ in range(repeats if len(group) == 8 else 0):
            for way, each in (("online", teacher.online), ("cached", teacher)):
                begin = time.process_time()
                each.run(*call)
                seconds[way].append(time.process_time() - begin)
    return {
        "method": method,
        "taps": list(teacher.strides),
        "trained_teacher": weights is not None,
        "difference": max((sums[0] / sums[1]) ** 0.5 for sums in squares.values()),
        **{f"{way}_ms": 1e3 * statistics.median(found) if found else None for way, found in seconds.items()},
        "mib_an_image": told.megabytes / images,
    }


def step_table(logs: list[Log]) -> str:
    """The rows of `step` as a Markdown table."""
    lines = [
        "| method | augmentation | difference | forward, ms | cache, ms | MiB an image |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for log in logs:
        times = ["" if log[key] is None else f"{log[key]:.1f}" for key in ("online_ms", "cached_ms")]
        lines.append(
            f"| {log['method']} | {log['augmentation']} | {log['difference']:.4f} | {' | '.join(times)} "
            f"| {log['mib_an_image']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="train what is missing first")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--step", action="store_true", help="measure one step first")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.step:
        write(RESULTS / "step.json", step())
    if args.run:
        run(args.seeds)
    print(f"{table(RESULTS)}\n\n{step_table(read(RESULTS / 'step.json'))}")


if __name__ == "__main__":
    main(sys.argv[1:])
