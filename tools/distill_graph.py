"""Distil a graph network into a student that needs no graph: `python tools/distill_graph.py CONFIG --seeds 10`.

For each seed and in each setting a teacher, an untaught student (control) and one student for each method are trained.
One JSON log holds all runs; it is written after each seed, so that a run that was stopped goes on where it was, and it
is what the table is printed from.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from graphkd.data import Graph, cpf_split, load, observe
from graphkd.distillation import Outcome, measure_latency, study, teach
from graphkd.latency import PROTOCOL
from graphkd.student import StudentClassifier

ROOT = Path(__file__).parents[1]
SELECTION = (
    "epoch by validation accuracy, ties by validation cross-entropy; test labels are read by the evaluation alone"
)
COLUMNS = {
    "tran": "transductive",
    "oracle_test_best": "oracle_test_best",
    "prod": "production",
    "observed": "observed",
    "ind": "inductive",
    "cold": "cold-start",
}

Config = dict[str, Any]
Log = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a file under configs/graph, or one like it")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to SEEDS - 1; each is a split of its own")
    parser.add_argument("--out", type=Path, help="log file; default: results/graph/METHOD-DATA.json")
    parser.add_argument("--force", action="store_true", help="start anew where a log of another config lies")
    args = parser.parse_args()
    name = f"{args.config.parent.name}-{args.config.stem}"
    out = args.out or ROOT / "results" / "graph" / f"{name}.json"
    config = read_config(args.config)
    logs = [] if args.force else finished(out, config)
    todo = [seed for seed in range(args.seeds) if seed not in {log["seed"] for log in logs}]
    graph = load(config["data"])
    with tqdm(total=len(todo) * trainings(config), desc=name, unit="training", disable=not todo) as bar:
        for seed in todo:
            logs += run_seed(graph, config, name, seed, lambda: bar.update())
            write(out, logs)
    print(table([log for log in logs if log["seed"] < args.seeds]))


def read_config(path: Path) -> Config:
    """Read a config with its bases. mmengine's `Config` is needed here and nowhere else on the graph side."""
    try:
        from mmengine.config import Config as Reader
    except ModuleNotFoundError as error:
        raise SystemExit(f"reading a config needs {error.name}: pip install onedl-mmengine") from error
    config = Reader.fromfile(path)._cfg_dict.to_dict()
    known = {"data", "teacher", "student", "methods", "settings"}
    if set(config) != known:
        raise SystemExit(f"{path}: a graph config has the keys {sorted(known)}, this one {sorted(config)}")
    return json.loads(json.dumps(config))  # tuples as lists: as it will be read back from the log


def trainings(config: Config) -> int:
    """Number of models that one seed trains."""
    return len(config["settings"]) * (2 + len(config["methods"]))


def run_seed(graph: Graph, config: Config, name: str, seed: int, tick: Callable[[], object]) -> list[Log]:
    """Train everything for one seed; `tick` is called after each training. Returns one log for each model."""
    student = StudentClassifier(**config["student"])
    split = cpf_split(graph.y, seed)
    found: list[dict[str, Outcome]] = [{} for _ in range(2 + len(config["methods"]))]
    for setting in config["settings"]:
        view = observe(graph, split, setting, seed)
        taught = found[0][setting] = teach(view, config["teacher"], seed)
        tick()
        found[1][setting] = study(view, None, "supervised", student, seed)
        tick()
        for outcomes, method in zip(found[2:], config["methods"]):
            outcomes[setting] = study(view, taught.cache, method, student, seed)
            tick()
    roles = [
        ("teacher", config["teacher"]["type"]),
        ("control", "supervised"),
        *(("distilled", method["type"]) for method in config["methods"]),
    ]
    return [
        make_log(graph, config, name, seed, role, method, outcomes) for (role, method), outcomes in zip(roles, found)
    ]


def make_log(
    graph: Graph, config: Config, name: str, seed: int, role: str, method: str, outcomes: dict[str, Outcome]
) -> Log:
    metrics: dict[str, float | None] = {}
    for setting, outcome in outcomes.items():
        metrics |= {key: 100 * value for key, value in outcome.metrics.items()}
        suffix = "" if setting == "tran" else "_observed"
        for key, share in (("oracle_test_best", outcome.oracle_test_best), ("val", outcome.val)):
            metrics[key + suffix] = None if share is None else 100 * share
    model = next(iter(outcomes.values())).model
    network = model.network_ if isinstance(model, StudentClassifier) else model
    forward = measure_latency(network, graph, needs_edges=role == "teacher")
    return {
        "schema": 1,
        "side": "graph",
        "name": name,
        "role": role,
        "method": method,
        "seed": seed,
        "config": config,
        "metrics": metrics,
        "selection": SELECTION,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "latency_ms": {"all_nodes": forward, "threads": torch.get_num_threads(), "protocol": PROTOCOL},
        "seconds": sum(outcome.seconds for outcome in outcomes.values()),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if _macos() else 10)),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "torch-geometric", "scikit-learn", "numpy")},
        "commit": _commit(),
    }


def finished(path: Path, config: Config) -> list[Log]:
    """The runs that an earlier call left in `path`."""
    if not path.exists():
        return []
    logs: list[Log] = json.loads(path.read_text())
    if any(log["config"] != config for log in logs):
        raise SystemExit(f"{path} holds runs of another config; choose another --out, or pass --force to replace it")
    return logs


def write(path: Path, logs: list[Log]) -> None:
    """Replace the log in one go: whoever is killed leaves the old or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
        json.dump(logs, file, indent=1)
    os.replace(file.name, path)


def table(logs: list[Log]) -> str:
    """Markdown: mean and sample standard deviation over seeds, in per cent; differences are taken seed by seed."""
    models = list(dict.fromkeys((log["role"], log["method"]) for log in logs))
    runs = {model: [log for log in logs if (log["role"], log["method"]) == model] for model in models}
    columns = [key for key in COLUMNS if all(key in log["metrics"] for log in logs)]
    reference = ("distilled", "glnn") if ("distilled", "glnn") in models else ("control", "supervised")
    difference = f"paired difference to {reference[1]}"
    head = ["model", *(COLUMNS[key] for key in columns), difference, "parameters", "all nodes, ms"]
    lines = [head, ["---"] * len(head)]
    for model in models:
        row = [f"{model[0]} ({model[1]})"]
        row += [_mean([log["metrics"][key] for log in runs[model]]) for key in columns]
        first = columns[0]
        pairs = zip(runs[model], runs[reference])
        gaps = [one["metrics"][first] - other["metrics"][first] for one, other in pairs]
        row.append("" if model == reference else f"{_mean(gaps, '+.2f')} ({COLUMNS[first]})")
        row += [f"{runs[model][0]['params']:,}", _mean([log["latency_ms"]["all_nodes"] for log in runs[model]])]
        lines.append(row)
    seeds = sorted({log["seed"] for log in logs})
    return "\n".join([f"{logs[0]['name']}, {len(seeds)} seeds", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _mean(values: list[float | None], form: str = ".2f") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = statistics.stdev(known) if len(known) > 1 else math.nan
    return f"{statistics.mean(known):{form}} ± {spread:.2f}"


def _macos() -> bool:
    return sys.platform == "darwin"


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
