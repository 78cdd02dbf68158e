"""Measured weights against a grid of five, on scenes of digits: `python benchmarks/weight_grid.py --seeds 3`.

For each method the published weights of its entries are multiplied by 0.01, 0.1, 1, 10 and 100. `balance='auto'` needs
one training where the grid needs five. All share a teacher, the control and a schedule, see
`configs/_base_/tables/scenes_fpn.py`. The best of the grid is chosen on the frames that are reported, which favours it.

`--out` gets a log for each run, `--work-dir` the configs and weights; finished runs are not repeated. `--report FOLDER`
prints what the logs say.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densekd import build_model, control, read_config
from densekd.cli import compare
from densekd.methods import method_entries
from densekd.shipped import CONFIGS
from kdlosses.cli.logs import read
from kdlosses.cli.report import spread

TABLE = CONFIGS.find("_base_/tables/scenes_fpn")
METHODS = ("cwd", "mgd", "pkd", "bpkd")
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)


def configs(methods: Sequence[str], folder: Path) -> list[Path]:
    """Write a config for each weight of each method."""
    teacher = build_model(read_config(TABLE).model.teacher)[0]
    student = build_model(control(read_config(TABLE)))[0]
    found = []
    for method in methods:
        entries = method_entries(method, student, teacher)
        fields: dict[str, Any] = {f"{method}_auto": dict(method=method, balance="auto")}
        for factor in FACTORS:
            weighed = [{**entry, "weight": factor * entry.get("weight", 1.0)} for entry in entries]
            fields[f"{method}_x{factor:g}"] = dict(distills=weighed)
        for name, model in fields.items():
            path = folder / name / "weight_grid.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"_base_ = {str(TABLE)!r}\nmodel = {model!r}\n")
            found.append(path)
    return found


def report(folder: Path) -> str:
    """For each method the best of its grid, and what is measured."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, float] = defaultdict(float)
    for log in read(folder):
        if log["role"] == "distilled":
            method, _, weight = log["method"].rpartition("_")
            scores[method][weight].append(log["metrics"]["mIoU"])
            seconds[f"{method} {'auto' if weight == 'auto' else 'grid'}"] += log["cpu_seconds"]
    head = ["method", *(f"x{factor:g}" for factor in FACTORS), "auto", "auto - best", "time of the grid / auto"]
    rows = [head, ["---"] * len(head)]
    for method, found in scores.items():
        grid = [found[name] for name in head[1 : 1 + len(FACTORS)]]
        best = max(statistics.mean(values) for values in grid if values)
        rows.append([method, *map(spread, grid), spread(found["auto"])])
        rows[-1] += [f"{statistics.mean(found['auto']) - best:+.2f}"]
        rows[-1] += [f"{seconds[f'{method} grid'] / seconds[f'{method} auto']:.1f}"]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/seg/weight_grid"))
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/weight_grid"))
    parser.add_argument("--report", type=Path, help="print the logs in this folder")
    args = parser.parse_args(arguments)
    if args.report is None:
        paths = configs(args.methods, args.work_dir / "configs")
        rest = ["--seeds", str(args.seeds), "--out", str(args.out), "--work-dir", str(args.work_dir)]
        compare.main([*map(str, paths), *rest])
    print(report(args.report or args.out))


if __name__ == "__main__":
    main()
