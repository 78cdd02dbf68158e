"""Make a trained graph network forget edges, nodes or classes, by several methods.

    graphkd unlearn graphkd::unlearning/digits.py --seeds 5

For each seed a network is trained, a part of what it has learned is drawn, and each method of the config makes it
forget that. `retrain`, the network trained anew on what is left (reference), and `utu`, which changes no weight
(control), run in any case. Figures are explained in `graphkd.unlearning.figures`. One JSON log holds all runs; a run
that was stopped goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.cli._config import Config, read_keys
from graphkd.cli.distill import add_run_options, begun, progress, table_of
from graphkd.data import Graph, load, split_of
from graphkd.links import split_links
from graphkd.pipeline.arguments import built
from graphkd.pipeline.logs import labels, log_of
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.shipped import CONFIGS
from graphkd.training.loop import rehearsal
from graphkd.unlearning.asked import Asked
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.figures import Figures, figures, figures_before
from graphkd.unlearning.membership import shadow_attack
from graphkd.unlearning.methods import UNLEARNERS
from graphkd.unlearning.reach import drawn
from graphkd.unlearning.unlearning import carried_out, checked_method, learned_from, prepared
from kdlosses.cli.logs import Log, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser

KEYS = ("data", "task", "teacher", "forget", "methods")
ALWAYS = ("retrain", "utu")
SELECTION = "epoch by the mean of quality on validation data and of AUC_d; test data are read by the figures alone"
_RAW = ("MI ratio", "MFLOP", "weights")


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd unlearn")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::unlearning/digits.py"
    )
    add_run_options(parser, "log file; default: results/graph/unlearning-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "graph", read_config)
    if seeds:
        place_to_write(out.parent, new=False)
    with one_sentence(args.config), progress(name, len(seeds) * (3 + len(config["methods"])), "run") as tick:
        graph = load(config["data"], unsafe=args.unsafe)
        for seed in seeds:
            check(asked_for(graph, config, seed, train=False)[0], config)
        for seed in seeds:
            logs += run_seed(graph, config, name, seed, tick)
            write(out, logs)
    print(table_of(logs, args.seeds))


def read_config(path: Path) -> Config:
    """Read a config; raise SystemExit for what is wrong with its keys and methods."""
    config = read_keys(path, KEYS, "unlearning", may_be_empty=True)
    for key in ("teacher", "forget"):
        if not isinstance(config[key], dict):
            raise SystemExit(f"{path}: {key} is a dict of options, got {config[key]!r}")
    if config["task"] not in ("links", "nodes"):
        raise SystemExit(f"{path}: task is 'links' or 'nodes', got {config['task']!r}")
    with one_sentence(path):
        for method in config["methods"]:
            checked_method(method)
    called = labels(config["methods"])
    for label, method in zip(called, config["methods"]):
        if called.count(label) > 1:
            raise SystemExit(f"{path}: methods lists {label!r} twice")
        if method.get("type") in ALWAYS:
            raise SystemExit(f"{path}: {label!r} runs in any case: leave it out of methods")
    return config


def check(deletion: Deletion, config: Config) -> None:
    """Raise what the first step of a method, or of the attack, would raise."""
    deletion.before.shadow(deletion.deleted, torch.Generator())
    for method in config["methods"]:
        if method["type"] in UNLEARNERS:
            with rehearsal():
                checked_method(method)(deletion)


def asked_for(graph: Graph, config: Config, seed: int, train: bool = True) -> tuple[Deletion, Asked, float]:
    """Train the network of a config, and draw what it is to forget; seconds of the training last.

    Not trained, it serves to check all that was asked for.
    """
    task, options = config["task"], dict(config["teacher"])
    width = options.pop("width", 64) if task == "links" else graph.num_classes
    builder, options, schedule, *rest = parse_teacher(options)
    if any(rest):
        raise ValueError("the teacher has options of `distill`, which unlearning does not read: leave them out")
    split = split_links(graph, "tran", seed) if task == "links" else split_of(graph, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = built(builder, graph.x.shape[1], width, options)
    learned = learned_from(model, graph, task, split, seed)[1]
    start = time.perf_counter()
    if train:
        learned.fit(model, schedule, seed)
    seconds = time.perf_counter() - start
    forget = drawn(config["forget"], learned, seed)
    found = prepared(model, graph, task=task, split=split, trained=vars(schedule), seed=seed, **forget)
    return *found, seconds


def run_seed(graph: Graph, config: Config, name: str, seed: int, tick: Callable[[], object]) -> list[Log]:
    """Run all methods with one seed; one log for each, that of the trained network first."""
    reset_peak_memory()
    deletion, asked, seconds = asked_for(graph, config, seed)
    tick()
    attack = shadow_attack(deletion)
    retrained, cost = carried_out(deletion, checked_method("retrain"))
    called = labels(config["methods"])
    roles = [
        ("reference", "retrain", "retrain"),
        ("control", "utu", "utu"),
        *(
            ("distilled" if each["type"] == "d2dgn" else "reference", label, each)
            for label, each in zip(called, config["methods"])
        ),
    ]
    told: dict[str, Any] = {"deleted": asked.removed(), "attack_auc": attack.auc(deletion)}
    first = ("teacher", config["teacher"]["type"])
    logs = [make_log(config, name, seed, *first, deletion.model, figures_before(deletion), seconds, **told)]
    for role, label, method in roles:
        model, bill = (retrained, cost) if label == "retrain" else carried_out(deletion, checked_method(method))
        found = figures(deletion, model, attack, retrained)
        flops = {"unlearning_mflop": bill.flops / 1e6}
        logs.append(make_log(config, name, seed, role, label, model, found, bill.seconds, **flops))
        tick()
    return logs


def make_log(
    config: Config,
    name: str,
    seed: int,
    role: str,
    method: str,
    model: nn.Module,
    found: Figures,
    seconds: float,
    **told: Any,
) -> Log:
    """One log; shares in per cent."""
    log = log_of(
        "unlearning",
        {},
        model,
        None,
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics={key: value if key in _RAW else 100 * value for key, value in found.items()},
        selection=SELECTION,
        schedule=f"trained for at most {config['teacher'].get('epochs', 200)} epochs",
        **told,
    )
    return {**log, "seconds": seconds}
