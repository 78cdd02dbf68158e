"""Clients with parts of one graph learn in rounds, in one process.

    graphkd federate graphkd::federated/digits.py --seeds 3

For each seed each method of the config is run with the same clients: `local` is each client alone, the control. The
table shows the mean over the clients of the accuracy on their own test nodes, their deviation, the worst, and the bytes
that all of them sent and got. One JSON log holds all runs, with rounds and bytes of each client; a run that was stopped
goes on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from graphkd.cli._config import Config, read_keys
from graphkd.cli.distill import add_run_options, begun, progress, table_of
from graphkd.data import Graph, load
from graphkd.pipeline.federate import Federation, federate
from graphkd.pipeline.logs import labels, log_of
from graphkd.shipped import CONFIGS
from graphkd.students.classifier import StudentClassifier
from kdlosses.cli.logs import Log, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser
from kdlosses.rounds import method_of

KEYS = ("data", "clients", "rounds", "shares", "transfer", "student", "methods")
SELECTION = "round of each client by the accuracy on its own validation nodes, ties by cross-entropy"


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd federate")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::federated/digits.py"
    )
    add_run_options(parser, "log file; default: results/graph/federated-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "graph", read_config)
    if seeds:
        place_to_write(out.parent, new=False)
    with one_sentence(args.config), progress(name, len(seeds) * len(config["methods"]), "run") as tick:
        graph = load(config["data"], unsafe=args.unsafe)
        for seed in seeds:
            logs += run_seed(graph, config, name, seed, tick)
            write(out, logs)
    print(table_of(logs, args.seeds))


def read_config(path: Path) -> Config:
    """Read a config; raise SystemExit for what is wrong with its keys."""
    config = read_keys(path, KEYS, "clients")
    called = labels(config["methods"])
    for label in called:
        if called.count(label) > 1:
            raise SystemExit(f"{path}: methods lists {label!r} twice")
    with one_sentence(path):
        for method in config["methods"]:
            method_of(method)
    return config


def run_seed(graph: Graph, config: Config, name: str, seed: int, tick: Any) -> list[Log]:
    """Run all methods with one seed; one log for each."""
    shared = {key: config[key] for key in ("clients", "rounds", "shares", "transfer")}
    logs = []
    for method, label in zip(config["methods"], labels(config["methods"])):
        reset_peak_memory()
        start = time.perf_counter()
        result = federate(graph, method, **shared, student=StudentClassifier(**config["student"]), seed=seed)
        logs.append(make_log(result, config, name, seed, label, time.perf_counter() - start))
        tick()
    return logs


def make_log(result: Federation, config: Config, name: str, seed: int, method: str, seconds: float) -> Log:
    """One log, in per cent and megabytes; what each client sent and reached in `clients`."""
    metrics = result.metrics
    told = {key: 100 * metrics[key] for key in ("mean", "deviation", "worst")}
    told |= {f"MB {way}": metrics[f"bytes {way}"] / 1e6 for way in ("up", "down")}
    role = {"local": "control", "fedavg": "reference"}.get(method, "distilled")
    log = log_of(
        "federated",
        {},
        result.clients[0].model,
        None,
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics=told,
        selection=SELECTION,
        schedule=f"{config['rounds']} rounds of {config['student'].get('epochs', 500)} epochs",
        clients=[
            {
                "labelled": client.labelled,
                "val": 100 * record.val,
                "test": 100 * record.test,
                "round": record.turn,
                "up": [result.traffic.up.get((turn, place), 0) for turn in range(config["rounds"])],
                "down": [result.traffic.down.get((turn, place), 0) for turn in range(config["rounds"])],
            }
            for place, (client, record) in enumerate(zip(result.clients, result.records))
        ],
    )
    return {**log, "seconds": seconds}
