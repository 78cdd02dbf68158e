"""Condense a set of graphs, and train networks on what is left of it.

    graphkd condense graphkd::condensed/mutag.py --seeds 3 --save condensed

For each seed, a split, the training graphs are condensed with each of the config's thresholds, and each network is
trained on each of these. The thresholds are chosen by the mean validation score of the networks. Beside it the same
networks are trained on all training graphs (reference) and on graphs drawn at random up to the same bytes (control),
those of the first method. They have as many layers as the trees have hops, the fewest of any method, if the config does
not say how many. The table shows the test scores of each network, the bytes of what it was trained on, and the seconds
that condensing took. One JSON log holds all runs; a run that was stopped goes on. `--save` keeps the condensed sets
that were chosen, in files that `graphkd.Condensed.load` reads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from graphkd.cli._config import Config, read_keys
from graphkd.cli.distill import add_run_options, begun, files_to_save, progress, table_of
from graphkd.condensing import Condensed, TrainedOn, condense, train_condensed
from graphkd.condensing.learning import check_student
from graphkd.data import Graph, load
from graphkd.pipeline.logs import labels, log_of, per_cent
from graphkd.shipped import CONFIGS
from graphkd.training.scoring import measures
from kdlosses.cli.logs import Log, reset_peak_memory, versions, write
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser

KEYS = ("data", "methods", "thresholds", "students", "student", "steps", "scoring")
SELECTION = (
    "thresholds by the mean validation {0} of the networks, epoch of each by its own; test labels are read by the "
    "evaluation alone"
)


class Timed(NamedTuple):
    """A condensed set, and how long it took."""

    made: Condensed
    seconds: float


def timed(graph: Graph, method: Config, seed: int) -> Timed:
    start = time.perf_counter()
    return Timed(condense(graph, method, seed=seed), time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd condense")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::condensed/mutag.py"
    )
    parser.add_argument(
        "--save", type=Path, help="keep the condensed sets in this folder: NAME-METHOD-seedK.safetensors"
    )
    add_run_options(parser, "log file; default: results/graph/condensed-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "graph", read_config)
    called = labels(config["methods"])
    saved = files_to_save(args, name, seeds, called)
    with one_sentence(args.config):
        graph = load(config["data"], unsafe=args.unsafe)
        found = {seed: candidates(graph, config, seed) for seed in seeds}
        if seeds:
            place_to_write(out.parent, new=False)
            if args.save:
                place_to_write(args.save, new=False)
    count = len(config["students"]) * (2 + len(called) * len(config["thresholds"]))
    with one_sentence(args.config), progress(name, len(seeds) * count) as tick:
        for seed in seeds:
            told, chosen = run_seed(graph, config, name, seed, found[seed], tick)
            for label, made in zip(called, chosen):
                if saved:
                    made.save(saved[seed, label])
            logs += told
            write(out, logs)
    print(table_of(logs, args.seeds))
    for file in saved.values():
        print(f"condensed set {file}")


def read_config(path: Path) -> Config:
    """Read a config; raise SystemExit for what is wrong with its keys."""
    config = read_keys(path, KEYS, "condensed sets")
    for key in ("thresholds", "students", "scoring"):
        if not isinstance(config[key], list) or not config[key]:
            raise SystemExit(f"{path}: {key} is a list, and not an empty one; got {config[key]!r}")
    for method in config["methods"]:
        if "thresholds" in method:
            raise SystemExit(f"{path}: thresholds are those of the config, of which one is chosen; the method has none")
    if not isinstance(config["student"], dict) or "type" in config["student"]:
        raise SystemExit(f"{path}: student is a dict of options of all students, whose names are in students")
    for what in (labels(config["methods"]), config["students"]):
        if twice := [each for each in what if what.count(each) > 1]:
            raise SystemExit(f"{path} lists {twice[0]!r} twice")
    return config


def candidates(graph: Graph, config: Config, seed: int) -> list[list[Timed]]:
    """For each method a condensed set for each of the thresholds; raises what is wrong before anything is trained."""
    measures(config["scoring"], "single-label", graph.num_classes)
    found = []
    for method in config["methods"]:
        sets = [timed(graph, {**method, "thresholds": each}, seed) for each in config["thresholds"]]
        found.append(sets)
    for network in config["students"]:
        check_student({**config["student"], "type": network}, hops_of(found))
    return found


def hops_of(found: list[list[Timed]]) -> int:
    """The fewest hops of the trees of any method, layers of the networks if not given: all are trained on all sets."""
    return min(sets[0].made.hops or 1 for sets in found)


def run_seed(
    graph: Graph,
    config: Config,
    name: str,
    seed: int,
    found: list[list[Timed]],
    tick: Callable[[], object],
) -> tuple[list[Log], list[Condensed]]:
    """Train all networks with one seed; a log for each set that they were trained on, and the sets that were chosen."""
    reset_peak_memory()
    depth = hops_of(found)

    def trained(made: Condensed) -> list[TrainedOn]:
        outcomes = []
        for network in config["students"]:
            spec = {"layers": depth, **config["student"], "type": network}
            given: dict[str, Any] = {key: config[key] for key in ("steps", "scoring")}
            outcomes.append(train_condensed(made, spec, graph, seed=seed, **given))
            tick()
        return outcomes

    def log(role: str, method: str, each: Timed, outcomes: list[TrainedOn], **more: Any) -> Log:
        return make_log(config, name, seed, role, method, each, outcomes, more)

    first = measures(config["scoring"], "single-label", graph.num_classes)[0].name
    distilled, chosen = [], []
    for label, sets in zip(labels(config["methods"]), found):
        tried = [trained(each.made) for each in sets]
        val = [100 * statistics.fmean(one.val[first] for one in outcomes) for outcomes in tried]
        best = val.index(max(val))
        told = [
            {"thresholds": thresholds, "rows": len(each.made), "bytes": each.made.bytes, "val": value}
            for thresholds, each, value in zip(config["thresholds"], sets, val)
        ]
        thresholds = config["thresholds"][best]
        distilled.append(log("distilled", label, sets[best], tried[best], thresholds=thresholds, candidates=told))
        chosen.append(sets[best].made)
    few = timed(graph, dict(type="random", bytes=chosen[0].bytes), seed)
    every = timed(graph, dict(type="whole"), seed)
    beside = [
        log("reference", "all graphs", every, trained(every.made)),
        log("control", "random graphs", few, trained(few.made)),
    ]
    return [*beside, *distilled], chosen


def make_log(
    config: Config,
    name: str,
    seed: int,
    role: str,
    method: str,
    each: Timed,
    outcomes: list[TrainedOn],
    more: dict[str, Any],
) -> Log:
    """One log, of one set: in per cent the test scores of each network, its kilobytes, the seconds of condensing."""
    by_network = dict(zip(config["students"], outcomes))
    metrics: dict[str, float | None] = {
        f"{network} {key}": 100 * one.test[key] for key in outcomes[0].test for network, one in by_network.items()
    }
    metrics |= {"rows": float(len(each.made)), "kB": each.made.bytes / 1e3, "s to condense": each.seconds}
    told = log_of(
        "condensed",
        by_network,
        None,
        None,
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics=metrics,
        selection=SELECTION.format(next(iter(outcomes[0].val))),
        schedule=f"at most {config['student'].get('epochs', 200)} epochs of {config['steps']} steps",
        settings={
            network: {
                "val": 100 * next(iter(one.val.values())),
                "oracle_test_best": per_cent(one.oracle_test_best),
                "seconds": one.seconds,
            }
            for network, one in by_network.items()
        },
        **more,
    )
    return {**told, "versions": {**told["versions"], **versions("mlxtend")}}
