"""Rank every loss on logits or features under one budget: `python benchmarks/rank.py graph`, or `scenes`.

On the embedded digits graph and on digit scenes, with neither download nor GPU. Each student is trained on the labels
and one loss; the control on the labels alone, from the same start, on the same batches, for as many steps. The weight
of a loss follows one rule for all: before the first step it is set so that the gradient of the loss and that of the
labels have the same norm where the student is tapped (logits for logit losses; the last hidden layer, the neck for
feature losses), and stays. No weight, no option is searched: a rank says how a loss does out of the box. On the graph
validation nodes choose the epoch and test nodes are reported; on scenes the last step counts, on test scenes. A loss
that reads labels has them on labelled nodes alone, so on the graph it teaches there and nowhere else.

Finished runs are kept in the log and not repeated. The loss under the control's mean by the paired differences is
worse than no teacher.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import kdlosses
from kdlosses.cli.logs import ROOT, SCHEMA, Log, commit, read, versions, write

CONTROL = "labels only"
KINDS = ("logit", "feature")
EXCLUDED = {
    "assistive": "its teacher is the truth stacked with several regressors",
    "crkd": "it is for classes that the teacher does not know",
    "lelp": "its student has several logits a class",
    "swing": "it is kl but where something is private",
    "sinkd": "it pairs all positions with all, at twenty times the cost of the others",
    "uskd": "it has no teacher",
    "vq_code_kl": "it needs the teacher's codebook",
}


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="graph, scenes; both if none is given")
    parser.add_argument("--only", default="", help="losses with these keys alone: kl,dkd")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to SEEDS - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "rank", help="folder of the logs")
    parser.add_argument("--force", action="store_true", help="start anew where a log of another budget lies")
    args = parser.parse_args(arguments)
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; choose from {', '.join(PARTS)}")
    only = [key for key in args.only.split(",") if key]
    for key in only:
        if key not in candidates():
            parser.error(f"{key!r} is not ranked: {EXCLUDED.get(key) or kdlosses.nearest(key, candidates())}")
    for part in args.parts or PARTS:
        keys = [CONTROL, *(key for key in candidates() if key in only or not only)]
        logs = run(part, keys, range(args.seeds), args.jobs, args.out / f"{part}.json", args.force)
        print(table(part, [log for log in logs if log["loss"] in keys and log["seed"] < args.seeds]))
    for key, reason in EXCLUDED.items():
        print(f"not ranked: {key}: {reason}")


def candidates() -> list[str]:
    """Keys of all registered losses that one teacher's logits or features are enough for."""
    kinds = {key: loss.__module__.split(".")[1] for key, loss in sorted(kdlosses.LOSSES.items())}
    return [key for key, kind in kinds.items() if kind in KINDS and key not in EXCLUDED]


def spec(key: str, student_channels: int, teacher_channels: int, classes: int) -> tuple[dict[str, Any], bool]:
    """A loss with the options that it cannot do without, and whether it is one on features."""
    loss = kdlosses.LOSSES[key]
    sizes = dict(student_channels=student_channels, teacher_channels=teacher_channels, channels=teacher_channels)
    sizes |= dict(classes=classes, k=classes // 2)
    names = inspect.signature(loss).parameters
    return {"type": key, **{name: sizes[name] for name in sizes if name in names}}, "feature" in loss.__module__


def run(part: str, keys: Sequence[str], seeds: Sequence[int], jobs: int, out: Path, force: bool) -> list[Log]:
    """Do the runs that the log lacks; it is written after each."""
    budget = PARTS[part](None, 0)
    logs = read(out) if out.exists() and not force else []
    if any(log["budget"] != budget for log in logs):
        raise SystemExit(f"{out} holds runs of another budget; choose another --out, or pass --force to replace it")
    done = {(log["loss"], log["seed"]) for log in logs}
    todo = [(key, seed) for seed in seeds for key in keys if (key, seed) not in done]
    if not todo:
        return logs
    print(f"{part}: {budget}")
    if part == "scenes":
        PARTS[part](CONTROL, -1)  # trains the teacher, once for all processes
    about = {"schema": SCHEMA, "side": "rank", "name": part, "budget": budget, "commit": commit()}
    about["versions"] = versions("torch", "numpy", "scikit-learn", "torch-geometric", "onedl-mmsegmentation")
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = {pool.submit(PARTS[part], key, seed): (key, seed) for key, seed in todo}
        for future in tqdm(as_completed(futures), total=len(futures), desc=part, unit="run"):
            key, seed = futures[future]
            logs.append({**about, "loss": key, "seed": seed, **future.result()})
            write(out, logs)
    return logs


def table(part: str, logs: Sequence[Log]) -> str:
    """Losses by their mean difference to the control, the best first."""
    test: dict[str, dict[int, float]] = {}
    for log in logs:
        test.setdefault(log["loss"], {})[log["seed"]] = log["test"]
    control = test.pop(CONTROL)
    metric = logs[0]["metric"]
    lines = [f"\n{part}: {metric} in per cent, mean and standard deviation over seeds"]
    lines.append(f"{'':>4}  {'loss':<16}{'seeds':>6}{'mean':>8}{'std':>7}{'to control':>12}{'std':>7}{'better in':>11}")
    teacher = statistics.mean(log["teacher"] for log in logs)
    lines.append(f"{'':>4}  {'teacher':<16}{'':>6}{teacher:>8.2f}")
    rows = []
    for key, by_seed in test.items():
        gaps = [by_seed[seed] - control[seed] for seed in by_seed if seed in control]
        rows.append((statistics.mean(gaps), key, list(by_seed.values()), gaps))
    place, passed = 0, False
    for mean, key, values, gaps in [*sorted(rows, reverse=True), (-1e9, "", [], [])]:
        if mean < 0 and not passed:
            passed = True
            lines.append(f"{'':>4}  {CONTROL:<16}{len(control):>6}{_mean_std(list(control.values()))}")
        if key:
            place += 1
            wins = f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}"
            lines.append(f"{place:>4}  {key:<16}{len(values):>6}{_mean_std(values)}{_mean_std(gaps, '+12')}{wins:>11}")
    return "\n".join(lines)


def _mean_std(values: Sequence[float], width: str = "8") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):>{width}.2f}{deviation:>7.2f}"


def graph(key: str | None, seed: int) -> dict[str, Any]:
    """One run on the digits graph; the budget if there is no key."""
    import rank_graph

    return rank_graph.BUDGET if key is None else rank_graph.run(None if key == CONTROL else key, seed)


def scenes(key: str | None, seed: int) -> dict[str, Any]:
    """One run on digit scenes; the budget if there is no key."""
    import rank_scenes

    return rank_scenes.BUDGET if key is None else rank_scenes.run(None if key == CONTROL else key, seed)


PARTS: dict[str, Callable[[str | None, int], dict[str, Any]]] = {"graph": graph, "scenes": scenes}

if __name__ == "__main__":
    main()
