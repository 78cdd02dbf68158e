"""Tell actions in videos, or relations in images, from the entities that a detector found.

    graphkd scenes graphkd::scenes/passes_actions.py --seeds 3

For each seed the methods of the config are trained, all of actions or all of relations, and beside them the first one
without its idea (control). The table shows, of actions, the accuracy of the graph of each frame (local), of the one of
the whole video (global) and of both; of relations Recall@K, mean Recall@K, and how often both directions of a pair are
right (brc). One JSON log holds all runs; a run that was stopped goes on. `--save` keeps the models that are trained
now, in files that `graphkd.scenes.SceneModel.load` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphkd.cli._config import Config, read_keys
from graphkd.cli.distill import add_run_options, begun, files_to_save, progress, table_of
from graphkd.pipeline.logs import labels, log_of, per_cent
from graphkd.scenes.files import load
from graphkd.scenes.learning import SceneOutcome, about, check, control_of, parse_schedule, train_scenes
from graphkd.shipped import CONFIGS
from graphkd.spec import whole
from kdlosses.cli.logs import Log, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser

KEYS = ("data", "k", "schedule", "methods")
SELECTION = {
    "actions": "epoch by the mean validation score of both graphs, ties by loss; test videos are read by the "
    "evaluation alone",
    "relations": "epoch by validation mean Recall@{k}, ties by loss; test videos are read by the evaluation alone",
}


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd scenes")
    parser.add_argument(
        "config", type=CONFIGS.argument, help="a file, or the name of ours: graphkd::scenes/passes_actions.py"
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the models that are trained now")
    add_run_options(parser, "log file; default: results/graph/scenes-DATA.json")
    args = parser.parse_args(arguments)
    name, out, config, logs, seeds = begun(args, "graph", read_config)
    called = labels(config["methods"])
    saved = files_to_save(args, name, seeds, called)
    with one_sentence(args.config):
        for seed in seeds:
            scenes = load(config["data"], seed)
            for method in config["methods"]:
                check(scenes, method, config["schedule"], config["k"], seed)
        for folder in (out.parent, args.save) if seeds else ():
            if folder is not None:
                place_to_write(folder, new=False)
    with one_sentence(args.config), progress(name, len(seeds) * (1 + len(called))) as tick:
        for seed in seeds:
            found = run_seed(config, seed, tick)
            for label, outcome in zip(called, found[1:]):
                if saved:
                    outcome.model.save(saved[seed, label])
            roles = [("control", "without its idea"), *(("distilled", label) for label in called)]
            logs += [make_log(config, name, seed, *role, each) for role, each in zip(roles, found)]
            write(out, logs)
    print(table_of(logs, args.seeds))
    for file in saved.values():
        print(f"model {file}")


def read_config(path: Path) -> Config:
    """Read a config; raise SystemExit for what is wrong with it."""
    config = read_keys(path, KEYS, "scenes")
    with one_sentence(path):
        whole("k", config["k"], 1)
        parse_schedule(config["schedule"])
        tasks = [about(method)[2].task for method in config["methods"]]
        if len(set(tasks)) > 1:
            raise ValueError("methods are of actions or of relations, not of both: write two configs")
        called = labels(config["methods"])
        if twice := [each for each in called if called.count(each) > 1]:
            raise ValueError(f"methods lists {twice[0]!r} twice")
    return config


def run_seed(config: Config, seed: int, tick: Any) -> list[SceneOutcome]:
    """Train the control and all methods with one seed."""
    reset_peak_memory()
    scenes, found = load(config["data"], seed), []
    for method in (control_of(config["methods"][0]), *config["methods"]):
        found.append(train_scenes(scenes, method, schedule=config["schedule"], k=config["k"], seed=seed))
        tick()
    return found


def make_log(config: Config, name: str, seed: int, role: str, method: str, outcome: SceneOutcome) -> Log:
    """One log, in per cent."""
    k, told = config["k"], outcome.model.task
    called = {"recall": f"recall@{k}", "mean_recall": f"mean recall@{k}"}
    return log_of(
        "scenes",
        {"": outcome},
        outcome.model.network,
        None,
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics={called.get(key, key): 100 * value for key, value in outcome.metrics.items()},
        selection=SELECTION[told].format(k=k),
        schedule=f"at most {parse_schedule(config['schedule']).epochs} epochs",
        val=per_cent(outcome.val),
        oracle_test_best=per_cent(outcome.oracle_test_best),
    )
