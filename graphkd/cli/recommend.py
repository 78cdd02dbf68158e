"""Distill a recommender into one with few edges and few entries of its embedding.

    graphkd recommend graphkd::recommendation/lightgnn/blocks.py --seeds 3

For each seed a teacher, a student that is pruned untaught (control) and one student for each method are trained; all
students have the same shares of edges and entries left. The table shows Recall@K and NDCG@K of the test, what is left,
kilobytes, and milliseconds to rank all items for all users. One JSON log holds all runs; a run that was stopped goes
on. `--save` keeps the students of the seeds that are trained now, in files that `graphkd.Recommender.load` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphkd.cli._config import Config, read_keys
from graphkd.cli.distill import add_run_options, begun, progress, table_of
from graphkd.pipeline.logs import in_file_name, labels, log_of, per_cent
from graphkd.recommendation.distillation import (
    RecommendationOutcome,
    check_k,
    parse_student,
    parse_teacher,
    rehearse,
    train_recommendation_teacher,
    train_recommender,
)
from graphkd.recommendation.files import load_parts
from graphkd.recommendation.recipes import RECOMMENDATION_RECIPES
from graphkd.shipped import CONFIGS
from graphkd.spec import resolve
from graphkd.training.latency import REPEATS, WARMUP
from kdlosses.cli.logs import Log, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser

KEYS = ("data", "k", "teacher", "student", "methods")
CONTROL = "pruned_supervised"
SELECTION = "epoch by validation Recall@{k}, ties by NDCG; pairs of the test are read by the evaluation alone"
PROTOCOL = (
    "wall clock to spread the embeddings over the edges and rank all items for all users, full width, median of "
    f"{REPEATS} after {WARMUP} warm-ups; bytes are those of entries, edges and their weights in a file"
)


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd recommend")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::recommendation/lightgnn/blocks.py"
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the students that are trained now")
    add_run_options(parser, "log file; default: results/graph/METHOD-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "graph", read_config)
    for seed in seeds:
        with one_sentence(args.config):
            parts = load_parts(config["data"], seed)
            check_k(parts, config["k"])
            for method in config["methods"] if seed == seeds[0] else ():
                rehearse(parts, config["teacher"], method, config["student"], config["k"], seed)
            for file in students(args.save, name, config, seed):
                if file.exists() and not args.force:
                    raise FileExistsError(f"{file} is there already: choose another --save, or replace it with --force")
    with one_sentence(args.config):
        for folder in (out.parent, args.save) if seeds else ():
            if folder is not None:
                place_to_write(folder, new=False)
    with one_sentence(args.config), progress(name, len(seeds) * (2 + len(config["methods"]))) as tick:
        for seed in seeds:
            logs += run_seed(config, name, seed, tick, args.save)
            write(out, logs)
    print(table_of(logs, args.seeds))
    for seed in seeds:
        for file in students(args.save, name, config, seed):
            print(f"student {file}")


def read_config(path: Path) -> Config:
    """Read a config; raise SystemExit for what is wrong with it."""
    config = read_keys(path, KEYS, "recommenders")
    with one_sentence(path):
        for method in config["methods"]:
            if [{"type": CONTROL}, *config["methods"]].count(method) > 1:
                raise ValueError(f"methods lists {method!r} twice, or the control, which is always trained")
        for method in config["methods"]:
            resolve("method", method, RECOMMENDATION_RECIPES)
        parse_teacher(config["teacher"])
        parse_student(config["student"])
    return config


def students(folder: Path | None, name: str, config: Config, seed: int) -> list[Path]:
    """Files of the students of a seed, method by method; none without a folder."""
    if folder is None:
        return []
    return [folder / f"{name}-{in_file_name(label)}-seed{seed}.safetensors" for label in labels(config["methods"])]


def run_seed(config: Config, name: str, seed: int, tick: Any, save: Path | None = None) -> list[Log]:
    """Train everything for one seed; one log for each model."""
    reset_peak_memory()
    parts, k = load_parts(config["data"], seed), config["k"]
    taught = train_recommendation_teacher(parts, config["teacher"], k, seed)
    tick()
    found = [("teacher", "lightgcn", taught)]
    methods = [{"type": CONTROL}, *config["methods"]]
    for label, method in zip(labels(methods), methods):
        outcome = train_recommender(parts, taught.layers, method, config["student"], k, seed)
        role = "distilled" if method["type"] != CONTROL else "reference" if method in config["methods"] else "control"
        found.append((role, label, outcome))
        tick()
    for file, (_, _, outcome) in zip(students(save, name, config, seed), found[2:]):
        outcome.model.save(file)
    return [make_log(config, name, seed, *each) for each in found]


def make_log(config: Config, name: str, seed: int, role: str, method: str, outcome: RecommendationOutcome) -> Log:
    """One log, in per cent, kilobytes and milliseconds."""
    k = config["k"]
    _, schedule = parse_teacher(config["teacher"])
    _, target, of_run = parse_student(config["student"])
    log = log_of(
        "recommendation",
        {"": outcome},
        outcome.model.network,
        {"all_users": outcome.latency, "protocol": PROTOCOL},
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics={
            f"recall@{k}": 100 * outcome.recall,
            f"ndcg@{k}": 100 * outcome.ndcg,
            "edges, %": 100 * outcome.edges,
            "entries, %": 100 * outcome.entries,
            "kB": outcome.bytes / 1000,
        },
        selection=SELECTION.format(k=k),
        schedule=f"at most {schedule.epochs} epochs"
        if role == "teacher"
        else f"{target.runs + 1} runs of at most {of_run.epochs} epochs",
        val=per_cent(outcome.val),
    )
    return {**log, "params": None}  # what is left of them is in the metrics
