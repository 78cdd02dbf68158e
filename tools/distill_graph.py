"""Distil a graph network into a student that needs no graph: `python tools/distill_graph.py CONFIG --seeds 10`.

For each seed and in each setting a teacher, an untaught student (control) and one student for each method are trained.
Where `teacher` is a list, its teachers are trained one by one and teach together.
One JSON log holds all runs; it is written after each seed, so that a run that was stopped goes on where it was, and it
is what the table is printed from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from logs import ROOT, SCHEMA, Log, commit, peak_memory, read, reset_peak_memory, versions, write
from report import table
from tqdm import tqdm

from graphkd.data import Graph, cpf_split, load, observe
from graphkd.distillation import Outcome, measure_latency, study, teach
from graphkd.latency import PROTOCOL
from graphkd.recipes import asked
from graphkd.student import StudentClassifier

SELECTION = (
    "epoch by validation accuracy, ties by validation cross-entropy; test labels are read by the evaluation alone"
)
Config = dict[str, Any]


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
    reset_peak_memory()
    student = StudentClassifier(**config["student"])
    split = cpf_split(graph.y, seed)
    found: list[dict[str, Outcome]] = [{} for _ in range(2 + len(config["methods"]))]
    for setting in config["settings"]:
        view = observe(graph, split, setting, seed)
        tells = set().union(*(asked(method) for method in config["methods"]))
        taught = found[0][setting] = teach(view, config["teacher"], seed, tells)
        tick()
        found[1][setting] = study(view, None, "supervised", student, seed)
        tick()
        for outcomes, method in zip(found[2:], config["methods"]):
            outcomes[setting] = study(view, taught.cache, method, student, seed)
            tick()
    roles = [
        ("teacher", " + ".join(each["type"] for each in _listed(config["teacher"]))),
        ("control", "supervised"),
        *(("distilled", name) for name in labels(config["methods"])),
    ]
    return [
        make_log(graph, config, name, seed, role, method, outcomes) for (role, method), outcomes in zip(roles, found)
    ]


def labels(methods: list[Any]) -> list[str]:
    """Name methods by their type and by what they are put around; with options where that would not tell them apart.

    >>> labels([dict(type="glnn"), dict(type="ffg2m", lam=0.2), dict(type="ffg2m", lam=0.5)])
    ['glnn', 'ffg2m(lam=0.2)', 'ffg2m(lam=0.5)']
    >>> labels([dict(type="terms", distills=[dict(loss=dict(type="until", loss="kl"))])])
    ['terms(until(kl))']
    """
    short = [_label(method) for method in methods]
    return [name if short.count(name) == 1 else _label(method, True) for name, method in zip(short, methods)]


def _label(spec: Any, full: bool = False) -> str:
    if not isinstance(spec, dict):
        return str(spec)
    inside = [_label(entry["loss"], full) for entry in spec.get("distills", ())]
    inside += [_label(spec[key], full) for key in ("method", "loss") if key in spec]
    rest = {key: value for key, value in spec.items() if key not in ("type", "distills", "method", "loss")}
    inside += [f"{key}={value}" for key, value in rest.items() if full]
    return spec["type"] + (f"({', '.join(dict.fromkeys(inside))})" if inside else "")


def make_log(
    graph: Graph, config: Config, name: str, seed: int, role: str, method: str, outcomes: dict[str, Outcome]
) -> Log:
    metrics: dict[str, float | None] = {}
    for setting, outcome in outcomes.items():
        metrics |= {key: 100 * value for key, value in outcome.metrics.items()}
        if setting == "tran":
            metrics["oracle_test_best"] = _per_cent(outcome.oracle_test_best)
    first = next(iter(outcomes.values()))
    if first.cache is None:
        network, epochs = first.model.network_, first.model.epochs
    else:
        network, told = first.model, _listed(first.cache.settings["teacher"])
        epochs = max(each["epochs"] for each in told)
    answers = measure_latency(network, graph, needs_edges=role == "teacher", x=first.x)
    return {
        "schema": SCHEMA,
        "side": "graph",
        "name": name,
        "role": role,
        "method": method,
        "seed": seed,
        "config": config,
        "metrics": metrics,
        "selection": SELECTION,
        "schedule": f"at most {epochs} epochs",
        "settings": {
            setting: {
                "val": _per_cent(outcome.val),
                "oracle_test_best": _per_cent(outcome.oracle_test_best),
                "seconds": outcome.seconds,
            }
            for setting, outcome in outcomes.items()
        },
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "latency_ms": {**answers, "threads": torch.get_num_threads(), "protocol": PROTOCOL},
        "seconds": sum(outcome.seconds for outcome in outcomes.values()),
        "peak_memory_mb": peak_memory(),
        "versions": versions("torch", "torch-geometric", "scikit-learn", "numpy"),
        "commit": commit(),
    }


def finished(path: Path, config: Config) -> list[Log]:
    """The runs that an earlier call left in `path`."""
    if not path.exists():
        return []
    logs = read(path)
    if any(log["config"] != config for log in logs):
        raise SystemExit(f"{path} holds runs of another config; choose another --out, or pass --force to replace it")
    return logs


def _listed(teacher: Any) -> list[Any]:
    return teacher if isinstance(teacher, list) else [teacher]


def _per_cent(share: float | None) -> float | None:
    return None if share is None else 100 * share


if __name__ == "__main__":
    main()
