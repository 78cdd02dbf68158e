"""Distill a graph network that tells links into a student that needs no graph.

    graphkd links graphkd::links/llp/cora.py --seeds 10

For each seed and each split of the edges a teacher, an untaught student (control) and one student for each method are
trained. One JSON log holds all runs, as that of `graphkd distill` does; a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphkd.cli.distill import (
    Config,
    add_run_options,
    begun,
    progress,
    table_of,
    trainings,
)
from graphkd.data import Graph, load
from graphkd.links import LINK_RECIPES, LinkOutcome, LinkStudent, split_links, train_link_student, train_link_teacher
from graphkd.links.distillation import parse_teacher
from graphkd.pipeline.logs import labels, log_of, per_cent
from graphkd.shipped import CONFIGS
from graphkd.spec import resolve
from graphkd.training.latency import REPEATS, WARMUP
from kdlosses.cli.logs import Log, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence
from kdlosses.cli.parser import Parser

SELECTION = "epoch by validation Hits@{k}, ties by AUC; test edges are read by the evaluation alone"
PROTOCOL = f"all test pairs scored, features and edges in memory, median of {REPEATS} after {WARMUP} warm-ups"


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd links")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::links/llp/digits.py"
    )
    add_run_options(parser, "log file; default: results/links/METHOD-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "links")
    with one_sentence(args.config):
        graph = load(config["data"], unsafe=args.unsafe)
        check(config, graph)
    with one_sentence(args.config), progress(name, len(seeds) * trainings(config)) as tick:
        for seed in seeds:
            logs += run_seed(graph, config, name, seed, tick)
            write(out, logs)
    print(table_of(logs, args.seeds))


def check(config: Config, graph: Graph) -> None:
    """Raise for what can be found wrong with a config before anything is trained."""
    for key in ("settings", "methods"):
        if not isinstance(config[key], list) or not config[key]:
            raise ValueError(f"{key} is a list, and not an empty one; got {config[key]!r}")
    for key in ("teacher", "student"):
        if not isinstance(config[key], dict):
            raise ValueError(f"{key} is a dict of options, got {config[key]!r}")
    for method in config["methods"]:
        resolve("method", method, LINK_RECIPES)
    parse_teacher(config["teacher"])
    LinkStudent(**config["student"]).check_settings()
    for setting in config["settings"]:
        split_links(graph, setting, 0)


def run_seed(graph: Graph, config: Config, name: str, seed: int, tick: Callable[[], object]) -> list[Log]:
    """Train everything for one seed; `tick` is called after each training. Returns one log for each model."""
    reset_peak_memory()
    student, methods = LinkStudent(**config["student"]), config["methods"]
    found: list[dict[str, LinkOutcome]] = [{} for _ in range(2 + len(methods))]
    for setting in config["settings"]:
        split = split_links(graph, setting, seed)
        kind = setting["type"] if isinstance(setting, dict) else setting
        taught = found[0][kind] = train_link_teacher(split, config["teacher"], seed, student.k)
        tick()
        for outcomes, method in zip(found[1:], ["link_supervised", *methods]):
            score = None if method == "link_supervised" else taught.score
            outcomes[kind] = train_link_student(split, score, method, student, seed)
            tick()
    roles = [
        ("teacher", config["teacher"]["type"]),
        ("control", "link_supervised"),
        *(("distilled", label) for label in labels(methods)),
    ]
    return [
        make_log(config, name, seed, role, method, student.k, outcomes)
        for (role, method), outcomes in zip(roles, found)
    ]


def make_log(
    config: Config, name: str, seed: int, role: str, method: str, k: int, outcomes: dict[str, LinkOutcome]
) -> Log:
    """One log: of `tran` Hits@K, AUC, MRR, of `prod` Hits@K by the kinds of edges; what else there is in `settings`."""
    metrics: dict[str, float | None] = {}
    for setting, outcome in outcomes.items():
        if setting == "tran":
            metrics |= {f"hits@{k}": 100 * outcome.hits["test"], "auc": 100 * outcome.auc["test"]}
            metrics["mrr"] = 100 * outcome.mrr["test"]
            metrics["oracle_test_best"] = per_cent(outcome.oracle_test_best)
        else:
            metrics |= {f"{setting}_{kind}": 100 * value for kind, value in outcome.hits.items()}
    first = next(iter(outcomes.values()))
    teacher = role == "teacher"
    network = first.model if teacher else first.model.network_
    epochs = parse_teacher(config["teacher"])[2].epochs if teacher else first.model.epochs
    return log_of(
        "links",
        outcomes,
        network,
        {"test_pairs": first.latency, "protocol": PROTOCOL},
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics=metrics,
        selection=SELECTION.format(k=k),
        schedule=f"at most {epochs} epochs",
        settings={setting: told(outcome) for setting, outcome in outcomes.items()},
    )


def told(outcome: LinkOutcome) -> dict[str, Any]:
    """What a log keeps of one setting beside the metrics."""
    return {
        "val": per_cent(outcome.val),
        "oracle_test_best": per_cent(outcome.oracle_test_best),
        "hits": {kind: 100 * value for kind, value in outcome.hits.items()},
        "auc": {kind: 100 * value for kind, value in outcome.auc.items()},
        "mrr": {kind: 100 * value for kind, value in outcome.mrr.items()},
        "seconds": outcome.seconds,
    }
