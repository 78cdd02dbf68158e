"""What a cache of a dense teacher saves: three methods with and without it, the same seeds, one after the other.

    python benchmarks/dense_cache.py                the table of the logs in results/dense_cache
    python benchmarks/dense_cache.py --run          train what is missing first, in about an hour on one core
    python benchmarks/dense_cache.py --step         what one step reads, beside the teacher's forward pass

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

import torch

from densekd.cli import compare, train
from densekd.runs.resume import last_whole_checkpoint
from kdlosses.cli.logs import read

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
        cells.append(spread(paired, "+.1f"))
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


def spread(values: list[float], form: str = ".1f") -> str:
    """Mean and standard deviation.

    >>> spread([1.0, 2.0])
    '1.5 ± 0.7'
    """
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def step(repeats: int = 15) -> str:
    """Time the teacher's forward pass on a batch of 8 images, and reading the cache for them."""
    from mmengine.registry import DefaultScope

    from densekd import Distiller, distill, read_config
    from densekd.cache.fill import use
    from densekd.registry import DATASETS

    config = read_config(STUDENT)
    lines = ["| method | taps | forward, ms | cache, ms | MiB an image |", "| --- | --- | --- | --- | --- |"]
    with DefaultScope.overwrite_default_scope("mmseg"), tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            taught = distill(read_config(STUDENT), teacher=str(TEACHER), method=method, checkpoint="random")
            options = {key: value for key, value in taught.model.items() if key != "type"}
            model = Distiller(**options, teacher_cache=folder)
            teacher = model.teachers["teacher"]
            data = DATASETS.build({**config.train_dataloader.dataset, "count": 64})
            told = use(teacher, data, model.data_preprocessor)
            samples = [data[i] for i in range(8)]
            batch = {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}
            batch = model.data_preprocessor(batch, True)
            times = []
            for each in (teacher.online, teacher):
                seconds = []
                for _ in range(repeats):
                    start = time.process_time()
                    each.run(batch["inputs"], batch["data_samples"], teacher.strides)
                    seconds.append(time.process_time() - start)
                times.append(1e3 * statistics.median(seconds))
            lines.append(
                f"| {method} | {', '.join(teacher.strides)} | {times[0]:.1f} | {times[1]:.1f} "
                f"| {told.megabytes / 64:.3f} |"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="train what is missing first")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--step", action="store_true", help="time one step instead")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.step:
        print(step())
        return
    if args.run:
        run(args.seeds)
    print(table(RESULTS))


if __name__ == "__main__":
    main(sys.argv[1:])
