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

With `--scale sampled` teachers, stacks of layers such as `sage`, learn from sampled neighbourhoods and are applied
layer by layer, see `graphkd.distill`; the log says so.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from graphkd.cli._config import (
    DEFAULTS,
    Config,
    check,
    check_where,
    methods_of,
    of_samples,
    read_config,
    references,
    teacher_of,
)
from graphkd.data import Graph, load, make_setting, sorted_undirected, split_of
from graphkd.pipeline.arguments import with_run
from graphkd.pipeline.cells import Cells
from graphkd.pipeline.distill_sampled import is_sampled
from graphkd.pipeline.logs import in_file_name, labels, listed, make_log, teacher_labels
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.pipeline.train_student import train_student
from graphkd.recipes import extras_of
from graphkd.recipes.registry import check_task
from graphkd.shipped import CONFIGS
from graphkd.students.classifier import StudentClassifier
from graphkd.students.regressor import StudentRegressor
from graphkd.training.cache import Cache
from graphkd.training.scoring import measures
from graphkd.training.watch import Run
from kdlosses.cli.logs import Log, read, reset_peak_memory, write
from kdlosses.cli.mistakes import one_sentence
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print a table for each config."""
    args = parse(arguments)
    runs: dict[Path, tuple[Path | None, str, Config, Cells, list[Log]]] = {}
    asked = asked_for(args)
    for path, name, config in asked:
        out = (args.out or Path("results") / "graph") / f"{name}.json"
        if args.out and len(args.configs) < 2:
            out = args.out
        if out in runs:
            raise SystemExit(f"two configs would share the log {out}: run them one by one, each with its --out")
        with one_sentence(path):
            check(config)
            run = Run.of(args.device, args.amp)
            check_where(config, run)
            folder = args.folder if args.folder is None or len(asked) == 1 else args.folder / name
            config, graph, sampled, logs = prepared(args, path, config, out)
            cells = Cells(graph, sampled, run, folder)
            check_cells(cells, config, todo(logs, args.seeds), args.device)
            for file in students(args.save, name, config, todo(logs, args.seeds)):
                if file.exists() and not args.force:
                    raise SystemExit(f"{file} is there already: choose another --save, or replace it with --force")
        runs[out] = path, name, config, cells, logs
    for out, (path, name, config, cells, logs) in runs.items():
        seeds = todo(logs, args.seeds)
        with one_sentence(path), progress(name, len(seeds) * trainings(config)) as tick:
            for seed in seeds:
                logs += run_seed(cells.graph, config, name, seed, tick, args.save, cells, device=args.device)
                write(out, logs)
        print(table_of(logs, args.seeds), end="\n\n")
        for file in students(args.save, name, config, seeds):
            print(f"student {file}")


def prepared(
    args: argparse.Namespace, path: Path | None, config: Config, out: Path
) -> tuple[Config, Graph, bool, list[Log]]:
    """The config as it is logged, its graph, whether that is sampled, and the runs that are done."""
    config = {**config, **({"amp": True} if args.amp else {})}
    graph = load(config["data"], unsafe=args.unsafe)
    sampled = is_sampled(args.scale, graph)
    if sampled:
        graph, config = sorted_undirected(graph), of_samples(config, path is None)
    logs = [] if args.force else finished(out, config)
    for seed in () if sampled else todo(logs, args.seeds):
        for setting in config["settings"]:
            for spec in (*listed(config["teacher"]), *references(config)):
                teacher = teacher_of(spec, setting, seed)
                if not isinstance(teacher, Cache):
                    parse_teacher(teacher)
    return config, graph, sampled, logs


def check_cells(cells: Cells, config: Config, seeds: Sequence[int], device: Any) -> None:
    """Raise an error for what does not fit the graph, before anything is trained."""
    graph, scoring = cells.graph, config.get("scoring")
    measures(scoring, graph.task, graph.num_classes)
    for method in config["methods"]:
        check_task(method, graph.task, graph.reads is None)
    places = [cells.place("", setting, seed) for seed in seeds for setting in config["settings"]]
    cells.check(config["methods"], scoring, [each for each in places if each is not None])
    if cells.folder is not None and all("cache" in each for each in listed(config["teacher"])):
        raise ValueError("--folder keeps the cache of a teacher that is trained here; this one is a cache already")
    student = with_run(student_of(graph, config), device, cells.run.amp)
    student.check_settings()
    for setting in config["settings"] if seeds else ():
        view = make_setting(graph, split_of(graph, seeds[0]), setting, seeds[0], scoring)
        teacher = teacher_of(config["teacher"], setting, seeds[0])
        if cells.sampled:
            cells.check_teacher(view, teacher)
        cells.rehearse(view, teacher, config["methods"], student, seeds[0])
        for spec in references(config) if cells.sampled else ():
            cells.rehearse(view, teacher_of(spec, setting, seeds[0]), [], student, seeds[0])


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
    parser.add_argument(
        "--scale",
        choices=("auto", "full", "sampled"),
        default="auto",
        help="whole graph in each step, or sampled neighbourhoods (default: auto, by the size of the graph)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="keep the teachers' caches, as SETTING-SEED: a config reads them as dict(cache='FOLDER/{setting}-{seed}')",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto, CUDA where there is one (default: cpu)")
    parser.add_argument("--amp", action="store_true", help="multiply in bfloat16 in training")
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


def check_seeds(seeds: int) -> None:
    """Raise SystemExit if there is no seed to run."""
    if seeds < 1:
        raise SystemExit(f"--seeds is how many to run, at least 1, got {seeds}")


def asked_for(args: argparse.Namespace) -> list[tuple[Path | None, str, Config]]:
    """Return file, name and content of each config; there is no file for what the command line says."""
    check_seeds(args.seeds)
    if not args.graph:
        return [(path, f"{path.parent.name}-{path.stem}", read_config(path)) for path in args.configs]
    methods = methods_of(args.method, args.loss)
    config = copy.deepcopy(DEFAULTS) | {"data": args.graph, "methods": methods or [{"type": "glnn"}]}
    config["settings"] = args.setting or config["settings"]
    config["teacher"]["type"] = args.teacher or config["teacher"]["type"]
    config |= {"scoring": args.scoring} if args.scoring else {}
    parts = [args.graph, config["teacher"]["type"], *args.scoring, *(args.method + args.loss or ["glnn"])]
    return [(None, "-".join(part.replace(":", ".") for part in parts), config)]


@contextmanager
def progress(name: str, count: int, unit: str = "training") -> Iterator[Callable[[], object]]:
    """A progress bar of so many trainings, none where nothing is to do; call what it yields after each."""
    with tqdm(total=count, desc=name, unit=unit, disable=not count) as bar:
        yield lambda: bar.update()


def table_of(logs: list[Log], seeds: int) -> str:
    """The table of the seeds that were asked for: a log may hold more."""
    return table([log for log in logs if log["seed"] < seeds])


def begun(
    args: argparse.Namespace, folder: str, read: Callable[[Path], Config] = read_config
) -> tuple[str, Path, Config, list[Log], list[int]]:
    """Name, log file and content of `args.config`, the runs that are done, and the seeds that are missing.

    The log is in a folder of `results` if `--out` names none.
    """
    check_seeds(args.seeds)
    name = f"{args.config.parent.name}-{args.config.stem}"
    out = args.out or Path("results") / folder / f"{name}.json"
    config = read(args.config)
    logs = [] if args.force else finished(out, config)
    return name, out, config, logs, todo(logs, args.seeds)


def files_to_save(
    args: argparse.Namespace, name: str, seeds: Sequence[int], called: Sequence[str]
) -> dict[tuple[int, str], Path]:
    """By seed and method the file that goes into the folder `--save`, none without one.

    Raises:
        SystemExit: one is there already, and there is no `--force`.
    """
    found = {
        (seed, label): args.save / f"{name}-{in_file_name(label)}-seed{seed}.safetensors"
        for seed in (seeds if args.save else ())
        for label in called
    }
    for file in found.values():
        if file.exists() and not args.force:
            raise SystemExit(f"{file} is there already: choose another --save, or replace it with --force")
    return found


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
        folder / f"{name}-{in_file_name(label)}-{setting}-seed{seed}.safetensors"
        for seed in seeds
        for setting in config["settings"]
        for label in labels(config["methods"])
    ]


def run_seed(
    graph: Graph,
    config: Config,
    name: str,
    seed: int,
    tick: Callable[[], object],
    save: Path | None = None,
    cells: Cells | None = None,
    device: Any = None,
) -> list[Log]:
    """Train everything for one seed; `tick` is called after each training. Returns one log for each model.

    Distilled students are saved in the folder `save`, see `students`. `cells` say how teachers are trained, by default
    on the whole graph and the CPU; students are trained on `device`, if one is given.
    """
    files = iter(students(save, name, config, [seed]))
    reset_peak_memory()
    cells = cells or Cells(graph, False, Run())
    student = with_run(student_of(graph, config), device, cells.run.amp)
    split = split_of(graph, seed)
    beside = references(config)
    found: list[dict[str, Outcome]] = [{} for _ in range(2 + len(config["methods"]) + len(beside))]
    extras = set().union(*(extras_of(method) for method in config["methods"]))
    for setting in config["settings"]:
        view = make_setting(graph, split, setting, seed, config.get("scoring"))
        teacher = teacher_of(config["teacher"], setting, seed)
        with cells.taught({setting: view}, teacher, seed, extras, called="") as taught:
            found[0] |= taught
            tick()
            found[1][setting] = train_student(view, None, "supervised", student, seed)
            tick()
            for outcomes, method in zip(found[2:], config["methods"]):
                outcomes[setting] = train_student(view, taught[setting], method, student, seed)
                if save is not None:
                    save.mkdir(parents=True, exist_ok=True)
                    outcomes[setting].model.save(next(files))
                tick()
        for outcomes, spec in zip(found[2 + len(config["methods"]) :], beside):
            with cells.taught({setting: view}, teacher_of(spec, setting, seed), seed) as untaught:
                outcomes |= untaught
            tick()
    measure = cells.latency if cells.sampled else None
    roles = [
        ("teacher", " + ".join(teacher_labels(listed(config["teacher"])))),
        ("control", "supervised"),
        *(("distilled", name) for name in labels(config["methods"])),
        *(("reference", name) for name in teacher_labels(beside)),
    ]
    return [
        make_log(graph, config, name, seed, role, method, outcomes, measure)
        for (role, method), outcomes in zip(roles, found)
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
