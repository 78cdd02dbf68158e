"""Each system with and without its idea, on the digits graph: `python benchmarks/ablations.py [--only NAME ...]
[--seeds 3] [--out results/ablations]`.

The rows are those of `benchmarks/systems.py` that name two students of a config. Beside them stands the control, the
same student untaught; each system has a log of its own in the folder, which holds the config as it was run. Seeds that
a log has are not run again. Systems that share all but their methods are trained together. `--list` prints the names,
`--report` the table of what is there, without training.

A benefit shows where the mean of the paired differences is above 0 and above their sample standard deviation; a student
is worse where it is as far below 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import systems
from systems import SYSTEMS, Measured, System, Without

from graphkd.cli._config import Config, check, read_config
from graphkd.cli.distill import finished, run_seed, todo
from graphkd.data import load
from graphkd.pipeline.logs import labels
from kdlosses.cli.logs import Log, read, write
from kdlosses.cli.report import spread
from kdlosses.options import nearest

METRIC = "tran"
MEASURES = {
    "tran": "accuracy",
    "mean": "accuracy, mean of the clients",
    "AUC_d": "retained over deleted edges, AUC",
    "tran matched_accuracy_new": "accuracy on new classes, clusters matched to classes",
}
"""What metrics of logs are on the page, where their names do not tell."""
ROWS = {system.key: system for system in SYSTEMS if isinstance(system.nodes_result, Without)}


def config_of(system: System) -> Config:
    """Its config on nodes in the transductive setting, with the methods that are compared alone.

    Raises:
        KeyError: the config has no such method.
    """
    assert isinstance(system.nodes_result, Without)
    config = read_config(systems.ROOT / "configs" / system.config("nodes"))
    named = dict(zip(labels(config["methods"]), config["methods"], strict=True))
    wanted = [name for name in system.nodes_result if name != "supervised"]
    for name in wanted:
        if name not in named:
            raise KeyError(f"{system.config('nodes')} has no method {name!r}; {nearest(name, list(named))}")
    return {**config, "settings": [METRIC], "methods": [named[name] for name in wanted]}


def run(chosen: Sequence[System], seeds: int, folder: Path) -> None:
    """Train what is missing. Systems whose configs differ in methods alone share teacher, control, plain students."""
    groups: dict[str, list[System]] = {}
    for system in chosen:
        check(config := config_of(system))
        groups.setdefault(json.dumps({**config, "methods": None}, sort_keys=True), []).append(system)
    for group in groups.values():
        logs = {system.key: finished(folder / f"{system.key}.json", config_of(system)) for system in group}
        for seed in range(seeds):
            missing = [system for system in group if seed in todo(logs[system.key], seeds)]
            for key, found in run_together(missing, seed).items():
                logs[key] += found
                write(folder / f"{key}.json", logs[key])
        for system in group:
            print(f"{system.key}: {result(system, 'nodes', folder)}", flush=True)


def run_together(group: Sequence[System], seed: int) -> dict[str, list[Log]]:
    """The logs of one seed for each of these systems, as if it had been run alone."""
    configs = {system.key: config_of(system) for system in group}
    methods: list[Any] = []
    for config in configs.values():
        methods += [method for method in config["methods"] if method not in methods]
    if not methods:
        return {}
    config = {**next(iter(configs.values())), "methods": methods}
    teacher, control, *students = run_seed(load(config["data"]), config, "", seed, lambda: None)
    found = {}
    for key, own in configs.items():
        mine = [students[methods.index(method)] for method in own["methods"]]
        named = [teacher, control, *(log | {"method": name} for log, name in zip(mine, labels(own["methods"])))]
        found[key] = [log | {"name": f"{key}-digits", "config": own} for log in named]
    return found


def result(system: System, side: str, folder: Path | None = None) -> str:
    """What the page says of a side: what the log says, the words of the row, or that nothing was run."""
    told = system.nodes_result if side == "nodes" else system.pixels_result
    if isinstance(told, str):
        return told
    if isinstance(told, Measured):
        path, _, part = told.log.partition(":")
        log = systems.ROOT / "results" / path
        if part:
            return f"{_shifted(log, part, told)} (`{told.log}`)"
        logs = read(log)
        elsewhere, _, plain = told.plain.rpartition(":")
        if elsewhere:
            found = [each for each in read(systems.ROOT / "results" / elsewhere) if each["method"] == plain]
            logs += [each | {"method": told.plain} for each in found]
        metric = told.metric or next(iter(logs[0]["metrics"]))
        name = "R²" if "validation r2" in logs[0]["selection"] else MEASURES.get(metric, metric)
        return f"{name}: {verdict(logs, told.taught, told.plain, metric)} (`{told.log}`)"
    log = (folder or systems.ROOT / "results" / "ablations") / f"{system.key}.json"
    if not log.is_file():
        return "not run"
    logs = read(log)
    told = _as_logged(told, logs)
    return verdict(logs, *told)


def _as_logged(told: Without, logs: list[Log]) -> Without:
    """The names that the log gives the students: alone, they need less to be told apart."""
    named = iter(labels(logs[0]["config"]["methods"]))
    return Without(*(name if name == "supervised" else next(named) for name in told))


def verdict(logs: list[Log], taught: str, plain: str, metric: str = "") -> str:
    """Both students, their difference, and the control, in a metric of the logs, the first if none is named."""
    groups: dict[str, list[Log]] = {}
    for log in logs:
        if log["role"] in ("control", "distilled"):
            groups.setdefault("control" if log["role"] == "control" else log["method"], []).append(log)
    metric = metric or next(iter(logs[0]["metrics"]))
    mine, other = groups[taught], groups["control" if plain in ("supervised", "untrained") else plain]
    told = compared(*({log["seed"]: log["metrics"][metric] for log in group} for group in (mine, other)))
    if other is groups["control"]:
        return told
    return f"{told}; control {spread([log['metrics'][metric] for log in groups['control']])}"


def compared(mine: dict[int, float], other: dict[int, float]) -> str:
    """Values by seed with and without an idea, and whether a benefit shows; one seed says nothing about that.

    >>> compared({0: 92.0, 1: 93.0}, {0: 90.0, 1: 90.0})
    '92.50 ± 0.71, without 90.00 ± 0.00: +2.50 ± 0.71 (2 seeds)'
    >>> compared({0: 92.0, 1: 90.0}, {0: 90.0, 1: 91.0})
    'no benefit shows: 91.00 ± 1.41, without 90.50 ± 0.71: +0.50 ± 2.12 (2 seeds)'
    >>> compared({0: 90.0, 1: 91.0}, {0: 92.0, 1: 93.5})
    'worse: 90.50 ± 0.71, without 92.75 ± 1.06: -2.25 ± 0.35 (2 seeds)'
    >>> compared({0: 90.0}, {0: 91.0})
    '90.00, without 91.00: -1.00 (one seed)'
    """
    apart = [mine[seed] - other[seed] for seed in sorted({*mine} & {*other})]
    told = f"{spread([*mine.values()])}, without {spread([*other.values()])}: {spread(apart, '+.2f')}"
    if len(apart) < 2:
        return f"{told} (one seed)"
    mean, deviation = statistics.mean(apart), statistics.stdev(apart)
    word = "" if mean > deviation else "worse: " if mean < -deviation else "no benefit shows: "
    return f"{word}{told} ({len(apart)} seeds)"


def _shifted(path: Path, part: str, told: Measured) -> str:
    """A run of `benchmarks/shifted.py`, in its last measure: under attack, where there is one."""
    runs = json.loads(path.read_text())["runs"][part]
    metric = list(runs[0][told.taught])[-1]
    values = [{seed: run[name][metric] for seed, run in enumerate(runs)} for name in (told.taught, told.plain)]
    return f"{metric}: {compared(*values)}"


def main(arguments: list[str] | None = None) -> int:
    """Run, and print a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of `--list`; all if not given")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("results/ablations"), help="folder (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the names, and end")
    parser.add_argument("--report", action="store_true", help="print what the logs say, and train nothing")
    args = parser.parse_args(arguments)
    for name in args.only or ():
        if name not in ROWS:
            parser.error(f"no system is called {name!r}; {nearest(name, list(ROWS))}")
    chosen = [ROWS[name] for name in args.only or ROWS]
    if args.list:
        print("\n".join(ROWS))
        return 0
    if not args.report:
        run(chosen, args.seeds, args.out)
    for system in chosen if args.report else ():
        print(f"{system.key}: {result(system, 'nodes', args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
