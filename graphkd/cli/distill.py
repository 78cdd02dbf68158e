"""Distill a graph network into a student that needs no graph.

    graphkd distill --graph cora --teacher sage --method glnn ffg2m --seeds 3
    graphkd distill --graph my_graphs:load --teacher my_nets:gin --loss my_losses:focal
    graphkd distill graphkd::glnn/digits.py --seeds 10
    graphkd distill --graph cora --setting tran --seeds 1 --save students

For each seed and in each setting a teacher, an untaught student (control) and one student for each method are trained.
One JSON log for each config holds all runs; it is written after each seed, so that a run that was stopped goes on
where it was, and it is what the table is printed from. `--save` also keeps the students that are trained, in files that
`graphkd.StudentClassifier.load` and `graphkd export` read.

Parts of one's own are `module:name`, here and in configs, where `dict(type="module:name", ...)` gives them options. A
graph is a function that returns a PyG `Data` or a `graphkd.Graph`, a teacher a function `(in_features, classes) ->
Module`, a loss a function `(student, teacher) -> scalar`, a method a recipe `(model, lesson) -> History`. Python looks
for the module on PYTHONPATH and in the current folder.

A config may say more. Where `teacher` is a list, its teachers are trained one by one and teach together. One that was
trained elsewhere is `dict(cache="folder/{setting}-{seed}")`, where caches lie, see `graphkd.Cache`.
A teacher may itself be taught, `dict(..., source="folder", method="lingugkd")`, by a cache like that of
`graphkd embed`; then it is trained untaught as well. These, and what the key `references` of a config lists, are
graph networks trained beside, which teach nobody. `scoring` names scorers of scikit-learn, the first of which
selects the epoch in place of the accuracy.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from graphkd import config as settings
from graphkd.data import Graph, load, make_setting, split_of
from graphkd.pipeline.logs import labels, listed, make_log, teacher_labels
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.rehearse import rehearse
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import check_method, extras_of, inputs_of
from graphkd.recipes.registry import check_task
from graphkd.shipped import CONFIGS
from graphkd.students.classifier import StudentClassifier
from graphkd.students.regressor import StudentRegressor
from graphkd.training.cache import Cache
from graphkd.training.scoring import measures
from kdlosses.cli.logs import Log, read, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table
from kdlosses.discover import imported
from kdlosses.options import nearest

Config = dict[str, Any]


DEFAULTS: Config = {
    "settings": ["tran", "ind"],
    "teacher": {"type": "sage", "epochs": 200},
    "student": {"hidden": [256], "dropout": 0.5, "lr": 0.01, "weight_decay": 5e-4, "epochs": 500, "patience": 50},
}
"""What `--graph` runs with, that of `configs/_base_/graph.py`."""


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print a table for each config."""
    args = parse(arguments)
    runs: dict[Path, tuple[Path | None, str, Config, Graph, list[Log]]] = {}
    for path, name, config in asked_for(args):
        out = (args.out or Path("results") / "graph") / f"{name}.json"
        if args.out and len(args.configs) < 2:
            out = args.out
        if out in runs:
            raise SystemExit(f"two configs would share the log {out}: run them one by one, each with its --out")
        logs = [] if args.force else finished(out, config)
        with one_sentence(path):
            check(config)
            seeds = todo(logs, args.seeds)
            for seed in seeds:
                for setting in config["settings"]:
                    for spec in (*listed(config["teacher"]), *references(config)):
                        teacher = teacher_of(spec, setting, seed)
                        if not isinstance(teacher, Cache):
                            parse_teacher(teacher)
            graph = load(config["data"], unsafe=args.unsafe)
            measures(config.get("scoring"), graph.task, graph.num_classes)
            for method in config["methods"]:
                check_task(method, graph.task, graph.reads is None)
            for setting in config["settings"] if seeds else ():
                view = make_setting(graph, split_of(graph, seeds[0]), setting, seeds[0], config.get("scoring"))
                teacher = teacher_of(config["teacher"], setting, seeds[0])
                rehearse(view, teacher, config["methods"], student_of(graph, config), seeds[0])
            for file in students(args.save, name, config, seeds):
                if file.exists() and not args.force:
                    raise SystemExit(f"{file} is there already: choose another --save, or replace it with --force")
        runs[out] = path, name, config, graph, logs
    for out, (path, name, config, graph, logs) in runs.items():
        seeds = todo(logs, args.seeds)
        with (
            one_sentence(path),
            tqdm(total=len(seeds) * trainings(config), desc=name, unit="training", disable=not seeds) as bar,
        ):
            for seed in seeds:
                logs += run_seed(graph, config, name, seed, lambda: bar.update(), args.save)
                write(out, logs)
        print(table([log for log in logs if log["seed"] < args.seeds]), end="\n\n")
        for file in students(args.save, name, config, seeds):
            print(f"student {file}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "graphkd distill")
    parser.add_argument(
        "configs", type=CONFIGS.argument, nargs="*", help="files, or names of ours, as graphkd::glnn/digits.py"
    )
    parser.add_argument("--graph", help="instead of a config: a name like cora, or module:name")
    parser.add_argument("--teacher", help="with --graph: a name, or module:name (default: sage)")
    parser.add_argument("--method", nargs="+", default=[], help="with --graph: names, or module:name (default: glnn)")
    parser.add_argument(
        "--loss",
        nargs="+",
        default=[],
        help="with --graph: losses on logits, one a student; names, or module:name",
    )
    parser.add_argument(
        "--setting", nargs="+", choices=("tran", "ind"), default=[], help="with --graph: all nodes seen, or some hidden"
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the students that are trained now")
    parser.add_argument(
        "--scoring", nargs="+", default=[], help="with --graph: scorers of scikit-learn; the first selects the epoch"
    )
    add_run_options(parser, "log file, of several configs their folder; default: results/graph")
    args = parser.parse_args(arguments)
    if bool(args.configs) == bool(args.graph):
        parser.error("give configs, or --graph")
    for option in ("teacher", "method", "loss", "setting", "scoring"):
        if args.configs and getattr(args, option):
            parser.error(f"--{option} goes with --graph: a config says its own")
    return args


def add_run_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what runs over seeds have in common; `out` is the help of `--out`."""
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to SEEDS - 1, each a split (default: 10)")
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="run the code that pickled data files (Planetoid's) may contain; only for files that you trust",
    )
    parser.add_argument("--force", action="store_true", help="start anew where a log of another config lies")


def asked_for(args: argparse.Namespace) -> list[tuple[Path | None, str, Config]]:
    """Return file, name and content of each config; there is no file for what the command line says."""
    if args.seeds < 1:
        raise SystemExit(f"--seeds is how many to run, at least 1, got {args.seeds}")
    if not args.graph:
        return [(path, f"{path.parent.name}-{path.stem}", read_config(path)) for path in args.configs]
    methods: list[Any] = [{"type": name} for name in args.method]
    methods += [{"type": "terms", "distills": [{"loss": name}]} for name in args.loss]
    config = copy.deepcopy(DEFAULTS) | {"data": args.graph, "methods": methods or [{"type": "glnn"}]}
    config["settings"] = args.setting or config["settings"]
    config["teacher"]["type"] = args.teacher or config["teacher"]["type"]
    config |= {"scoring": args.scoring} if args.scoring else {}
    parts = [args.graph, config["teacher"]["type"], *args.scoring, *(args.method + args.loss or ["glnn"])]
    return [(None, "-".join(part.replace(":", ".") for part in parts), config)]


def check(config: Config) -> None:
    """Raise for what can be found wrong with a config before anything is trained."""
    for key in ("settings", "methods"):
        if not isinstance(config[key], list) or not config[key]:
            raise ValueError(f"{key} is a list, and not an empty one; got {config[key]!r}")
    for setting in config["settings"]:
        if setting not in ("tran", "ind"):
            raise ValueError(f"settings are 'tran' and 'ind', not {setting!r}")
    for method in config["methods"]:
        check_method(method)
        inputs_of(method)
    for spec in (*listed(config["teacher"]), *config.get("references", [])):
        if not isinstance(spec, dict) or not isinstance(spec.get("type", spec.get("cache")), str):
            raise ValueError(f"a teacher is a dict with a 'type' or a 'cache', which is a string; got {spec!r}")
    if not isinstance(config["student"], dict):
        raise ValueError(f"student is a dict of options of StudentClassifier, got {config['student']!r}")
    StudentClassifier(**config["student"]).check_settings()


def read_config(path: Path) -> Config:
    """Read a config with its bases, see `graphkd.config`."""
    if not path.is_file():
        raise SystemExit(f"{path} is no file")
    try:
        config = json.loads(json.dumps(settings.read(path)))  # tuples as lists: as it will be read back from the log
    except Exception as error:  # a config is Python, in which anything can go wrong
        raise SystemExit(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    known = {"data", "teacher", "student", "methods", "settings"}
    optional = {"references", "scoring"}
    if "model" in config:
        raise SystemExit(f"{path} has a 'model': it is a config of mmengine; densekd train reads it, and not graphkd")
    if set(config) - optional != known:
        missing = [f"lacks {key!r}" for key in sorted(known - set(config))]
        unknown = [
            f"has a key {key!r}, which no graph config has: {nearest(key, (*known, *optional))}"
            for key in sorted(set(config) - known - optional)
        ]
        raise SystemExit(f"{path} {' and '.join(missing + unknown)}")
    if any(isinstance(each, dict) and "cache" in each and len(each) > 1 for each in listed(config["teacher"])):
        raise SystemExit(f"{path}: a teacher from a cache has no other option: dict(_delete_=True, cache=...)")
    return config


def teacher_of(spec: Any, setting: str, seed: int) -> Any:
    """The teacher of a config as `train_teacher` takes it: its cache opened, its function imported."""
    if isinstance(spec, list):
        return [teacher_of(each, setting, seed) for each in spec]
    if "cache" in spec:
        return Cache.load(_folder(spec["cache"], setting, seed))
    if "source" in spec:
        spec = {**spec, "source": _hidden_states(_folder(spec["source"], setting, seed))}
    return {**spec, "type": imported("teacher", spec["type"])} if ":" in spec["type"] else spec


def _folder(pattern: str, setting: str, seed: int) -> str:
    try:
        return pattern.format(setting=setting, seed=seed)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise SystemExit(f"{pattern!r} is no folder: it may have {{setting}} and {{seed}} in it") from error


def _hidden_states(folder: str) -> Cache:
    try:
        return Cache.load(folder)
    except FileNotFoundError as error:
        raise SystemExit(f"{error}; `graphkd embed` writes that of a language model") from error


def references(config: Config) -> list[Any]:
    """What is trained beside: that which the config lists, and every network in it that is taught, untaught."""
    beside = config.get("references", [])
    untaught = [
        {key: value for key, value in each.items() if key != "method" and (key != "source" or "inputs" in each)}
        for each in (*listed(config["teacher"]), *beside)
        if "method" in each
    ]
    found = [*untaught, *beside]
    return [each for place, each in enumerate(found) if each not in found[:place]]


def todo(logs: list[Log], seeds: int) -> list[int]:
    """The seeds that no log has yet."""
    return sorted(set(range(seeds)) - {log["seed"] for log in logs})


def trainings(config: Config) -> int:
    """Number of models that one seed trains."""
    return len(config["settings"]) * (2 + len(config["methods"]) + len(references(config)))


def students(folder: Path | None, name: str, config: Config, seeds: Sequence[int]) -> list[Path]:
    """Files of the students of these seeds: setting by setting, method by method; none without a folder.

    >>> config = dict(settings=["tran"], methods=[dict(type="glnn")])
    >>> [file.name for file in students(Path("out"), "cora-sage-glnn", config, [0])]
    ['cora-sage-glnn-glnn-tran-seed0.safetensors']
    """
    if folder is None:
        return []
    return [
        folder / f"{name}-{label.replace(':', '.').replace('/', '.')}-{setting}-seed{seed}.safetensors"
        for seed in seeds
        for setting in config["settings"]
        for label in labels(config["methods"])
    ]


def run_seed(
    graph: Graph, config: Config, name: str, seed: int, tick: Callable[[], object], save: Path | None = None
) -> list[Log]:
    """Train everything for one seed; `tick` is called after each training. Returns one log for each model.

    Distilled students are saved in the folder `save`, see `students`.
    """
    files = iter(students(save, name, config, [seed]))
    reset_peak_memory()
    student = student_of(graph, config)
    split = split_of(graph, seed)
    beside = references(config)
    found: list[dict[str, Outcome]] = [{} for _ in range(2 + len(config["methods"]) + len(beside))]
    for setting in config["settings"]:
        view = make_setting(graph, split, setting, seed, config.get("scoring"))
        extras = set().union(*(extras_of(method) for method in config["methods"]))
        taught = found[0][setting] = train_teacher(view, teacher_of(config["teacher"], setting, seed), seed, extras)
        tick()
        found[1][setting] = train_student(view, None, "supervised", student, seed)
        tick()
        for outcomes, method in zip(found[2:], config["methods"]):
            outcomes[setting] = train_student(view, taught.cache, method, student, seed)
            if save is not None:
                save.mkdir(parents=True, exist_ok=True)
                outcomes[setting].model.save(next(files))
            tick()
        for outcomes, spec in zip(found[2 + len(config["methods"]) :], beside):
            outcomes[setting] = train_teacher(view, teacher_of(spec, setting, seed), seed)
            tick()
    roles = [
        ("teacher", " + ".join(teacher_labels(listed(config["teacher"])))),
        ("control", "supervised"),
        *(("distilled", name) for name in labels(config["methods"])),
        *(("reference", name) for name in teacher_labels(beside)),
    ]
    return [
        make_log(graph, config, name, seed, role, method, outcomes) for (role, method), outcomes in zip(roles, found)
    ]


def student_of(graph: Graph, config: Config) -> StudentClassifier:
    """The student of a config, which predicts numbers where the targets are numbers."""
    return (StudentRegressor if graph.task == "regression" else StudentClassifier)(**config["student"])


def finished(path: Path, config: Config) -> list[Log]:
    """The runs that an earlier call left in `path`."""
    if not path.exists():
        return []
    if path.is_dir():
        raise SystemExit(f"--out is a file, and {path} a folder")
    try:
        logs = read(path)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"{path} holds no log: {error}; move it, or pass --force to replace it") from error
    if any(log["config"] != config for log in logs):
        raise SystemExit(f"{path} holds runs of another config; choose another --out, or pass --force to replace it")
    return logs
