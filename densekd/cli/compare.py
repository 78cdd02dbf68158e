"""Train teacher, control and distilled students under one schedule, with several seeds; log each run, print the table.

    densekd compare STUDENT.py --teacher TEACHER.py --methods cwd pkd --seeds 3
    densekd compare densekd::seg/pkd/camvid.py --seeds 3
    densekd compare 'densekd::seg/*/scenes_fpn' --seeds 3 --jobs 2     many methods in one table
    densekd compare densekd::seg/bpkd/camvid.py --balance published auto     both weights side by side

CONFIG is a student's, with --teacher and --methods, or names a `densekd.Distiller`. With --checkpoint, or a
`checkpoint` in the config, the teacher is measured as it is; else it is trained once, with seed 0, by the schedule of
its own config, unless it reads nothing but labels. The control is the student without a teacher, trained once for each
seed. Several configs are one table and share both: they must agree in all but the distiller; teachers of one config
alone, and each of several, are trained, too. Any metric of the config's evaluator will do, by --metric or else
`save_best`, or else all. Finished runs are not repeated: the same command goes on where it was stopped, and with one
config or method more it trains what is new. The log of another version of a config is not overwritten without --force.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config

from densekd.cli._overrides import method_name
from densekd.mmlab.config import cache_in, distill, is_taught, read_config
from densekd.policies import build_policies
from densekd.runs.comparison import (
    Role,
    check,
    check_arguments,
    config_of,
    differences,
    fingerprint,
    last_weights,
    marks_of_weights,
    method,
    pick,
    rows,
    run,
    side,
    trained_teachers,
)
from densekd.shipped import CONFIGS, is_config
from kdlosses.cli.logs import Log, read, write
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import ROLES, table, worse_teachers
from kdlosses.space import AUTO


class Job(NamedTuple):
    """One run: what is trained, by which name and seed; where its log and its weights go, where its teachers' are."""

    config: Config
    role: Role
    method: str
    seed: int
    table: str
    log: Path
    weights: Path
    teacher: str | None
    teachers: dict[str | None, Path]


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and print the table of what was asked for."""
    args = parse(arguments)
    given, name, called = compared(args, args.teacher_cache)
    check_one_budget(given)
    configs, name, methods = weighed(given, name, called, args.balance)
    kind = side(next(iter(configs.values())))
    out = args.out or Path("results") / kind / name
    weights = args.work_dir or Path("work_dirs") / kind / name
    jobs = plan(configs, methods, args.seeds, name, out, weights)
    todo = [job for job in jobs if args.force or not finished(job)]
    wanted = {folder for job in todo if job.role == "distilled" for folder in job.teachers.values()}
    for job in jobs:  # its log is there, but its weights are not
        if job.weights in wanted and job not in todo and last_weights(job.weights) is None:
            todo.insert(0, job)
    for config in configs.values() if todo else ():
        check(config)
    for folder in (out, weights) if todo else ():
        place_to_write(folder, new=False)
    for job in jobs:
        if job not in todo:
            logged(job, args.metric)
    work(todo, args.jobs, args.force, args.metric)
    found = [log for job in jobs for log in logged(job, args.metric)]
    print("\n".join([table(found), *("\n" + each for each in worse_teachers(found))]))


def add_table(parser: Parser) -> None:
    """Add the arguments that say what is in a table; `check_table` checks them."""
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG")
    parser.add_argument("--teacher", help="config of the teacher; 'ema', hf:FOLDER, lite0, module:name")
    parser.add_argument("--checkpoint", help="weights of the teacher, which is then not trained")
    parser.add_argument("--methods", nargs="+", type=method_name, metavar="METHOD", help="what to compare")
    parser.add_argument(
        "--balance",
        nargs="+",
        choices=("published", "auto"),
        default=["published"],
        help="weights of the entries: as configs and methods say, measured by gradients, or a row for each",
    )


def check_table(parser: Parser, args: argparse.Namespace) -> None:
    """Find the configs that the arguments name, and what does not go together."""
    args.configs = [each for given in args.configs for each in configs_of(given)]
    if bool(args.teacher) != bool(args.methods):
        parser.error("--teacher and --methods go together, with the config of a student")
    if args.methods and len(args.configs) > 1:
        parser.error("--methods takes the config of one student")
    if args.teacher == "ema" and args.checkpoint:
        parser.error("--teacher ema is the student's own average, it takes no --checkpoint")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd compare")
    add_table(parser)
    parser.add_argument(
        "--teacher-cache", metavar="DIR", help="folder of the teachers' outputs, which all methods and seeds share"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of control and students, 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--metric", nargs="+", default=[], help="metrics of the table, the first one decides")
    parser.add_argument("--out", type=Path, help="folder of the logs (default: results/<side>/<name>)")
    parser.add_argument("--work-dir", type=Path, help="folder of the weights (default: work_dirs/<side>/<name>)")
    parser.add_argument("--force", action="store_true", help="train again and replace the logs")
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes that share the cores; latencies are then those of a busy machine"
    )
    args = parser.parse_args(arguments)
    check_table(parser, args)
    for option in ("seeds", "jobs"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} must be at least 1")
    return args


def configs_of(given: Path) -> list[Path]:
    """Return the paths of the configs that an argument names: a path, a name, or a pattern of names."""
    if "*" in str(given):
        return [CONFIGS.find(name) for name in CONFIGS.matching(str(given))]
    return [given if is_config(given) or "::" in str(given) else CONFIGS.find(str(given))]


Key = Any  # a config's path, or a method's name


def compared(
    args: argparse.Namespace, teacher_cache: str | None = None
) -> tuple[dict[Key, Config], str, dict[Key, str]]:
    """Return the configs with a distiller, the name of their comparison, and their methods."""
    given = {"checkpoint": args.checkpoint} if args.checkpoint else {}
    configs: dict[Key, Config]
    if args.methods:
        (path,) = args.configs
        configs = {
            each: distill(read_config(path), teacher=args.teacher, method=each, **given)
            for each in dict.fromkeys(args.methods)
        }
        _cache(configs, teacher_cache)
        return configs, path.stem, {each: each.rpartition(":")[2] for each in configs}
    configs = {path: read_config(path) for path in args.configs}
    for path, config in configs.items():
        if not is_taught(config):
            sys.exit(f"{path} names no densekd.Distiller: give --teacher and --methods")
        config.model.update(given)
    _cache(configs, teacher_cache)
    for config in configs.values():
        check_arguments(config)
    return configs, *named(configs)


def weighed(
    configs: Mapping[Key, Config], name: str, methods: Mapping[Key, str], ways: list[str]
) -> tuple[dict[Key, Config], str, dict[Key, str]]:
    """Return configs, name and methods with a row for each way to weigh the entries."""
    found: dict[Key, Config] = {}
    called: dict[Key, str] = {}
    for key, config in configs.items():
        if "published" in ways:
            found[key], called[key] = config, methods[key]
        if "auto" in ways:
            auto = copy.deepcopy(config)
            auto.model.balance = "auto"
            found[key, "auto"], called[key, "auto"] = auto, f"{methods[key]}{AUTO}"
    return found, name, called


def _cache(configs: Mapping[Key, Config], folder: str | None) -> None:
    for config in configs.values() if folder is not None else ():
        cache_in(config, str(folder))


def named(configs: dict[Path, Config]) -> tuple[str, dict[Path, str]]:
    """Name the comparison and the method of each config: of several, what tells the paths apart is the method.

    `cwd/digits.py` alone is the comparison 'digits-cwd'; with `pkd/digits.py` it is 'digits', of 'cwd' and 'pkd'.
    """
    if len(configs) == 1:
        ((path, config),) = configs.items()
        return f"{path.stem}-{path.resolve().parent.name}", {path: method(config, "distilled")}
    files, folders = {path: path.stem for path in configs}, {path: path.resolve().parent.name for path in configs}
    for common, methods in ((files, folders), (folders, files)):
        unique = set(methods.values()) - set(ROLES)
        if len(set(common.values())) == 1 and len(unique) == len(configs):
            return next(iter(common.values())), methods
    sys.exit(
        "configs of one table are <method>/<name>.py of one name or <name>/<method>.py of one folder, no two methods "
        f"alike; got {', '.join(map(str, configs))}"
    )


def check_one_budget(configs: Mapping[Key, Config]) -> None:
    """Stop where two configs are unlike in more than the way that the student is taught."""
    (path, first), *others = configs.items()
    expected = _untaught(config_of(first, "control"))
    for other, config in others:
        fields = differences(expected, _untaught(config_of(config, "control")))
        if fields:
            sys.exit(f"{path} and {other} cannot share a control, which differs in {', '.join(fields[:5])}")


def _untaught(config: Config) -> Config:
    """A control's config without the policies that need a teacher, with which it does not train."""
    plain, hooks = copy.deepcopy(config), []
    for each in plain.get("custom_hooks") or []:
        if each.get("type") == "densekd.Policies":
            given = each.get("policies")
            each.policies = [one for one, built in zip(given, build_policies(given)) if not built.taught]
            if not each.policies:
                continue
        hooks.append(each)
    plain.custom_hooks = hooks
    return plain


def plan(
    configs: Mapping[Key, Config], methods: Mapping[Key, str], seeds: int, name: str, out: Path, weights: Path
) -> list[Job]:
    """List all runs: each teacher once, controls, then the methods seed by seed, so that a stopped table is fair."""

    def job(key: Key, role: Role, called: str, seed: int, file: str, teacher: str | None = None) -> Job:
        run_name = f"{file}-seed{seed}"
        config = configs[key]
        its = {each: weights / f"{files[marks[key][each]]}-seed0" for each in trained_teachers(config)}
        return Job(config, role, called, seed, name, out / f"{run_name}.json", weights / run_name, teacher, its)

    marks = {key: {teacher: _identity(config, teacher) for teacher in rows(config)} for key, config in configs.items()}
    owners: dict[str, tuple[Key, str | None]] = {}
    for key, found in marks.items():
        for teacher, mark in found.items():
            owners.setdefault(mark, (key, teacher))
    common = Counter(mark for found in marks.values() for mark in found.values()).most_common()
    files: dict[str, str] = {}
    jobs: list[Job] = []
    for place, (mark, _) in enumerate(common):
        key, teacher = owners[mark]
        own = "_".join(filter(None, (methods[key], teacher)))
        files[mark] = f"teacher_of_{own}" if place else "teacher"
    first = next(
        (key for key, found in marks.items() if common and common[0][0] in found.values()), next(iter(configs))
    )
    for place, (mark, _) in enumerate(common):
        key, teacher = owners[mark]
        several = len(rows(configs[key])) > 1
        called = str(teacher) if several else methods[key] if place else "supervised"
        if called in [each.method for each in jobs]:  # by that name another config has another one
            called = ", ".join(filter(None, (methods[key], teacher)))
        jobs.append(job(key, "teacher", called, 0, files[mark], teacher))
    jobs += [job(first, "control", "supervised", seed, "control") for seed in range(seeds)]
    alone = len(configs) == 1 and isinstance(first, Path)
    for seed in range(seeds):
        for key, called in methods.items():
            jobs.append(job(key, "distilled", called, seed, "distilled" if alone else called))
    return jobs


def _identity(config: Config, teacher: str | None) -> str:
    """What a teacher is: its config, and the weights that are given for it."""
    weights = marks_of_weights(config, "teacher", teacher)
    return "-".join([fingerprint(config_of(config, "teacher", teacher)), *weights.values()])


def work(todo: list[Job], processes: int, force: bool, metrics: list[str]) -> None:
    """Train one model after the other or several at a time, those with a teacher after all teachers."""
    if processes == 1:
        for number, job in enumerate(todo, 1):
            print(f"[{number}/{len(todo)}] {title(job)}", file=sys.stderr, flush=True)
            train(job, force)
            logged(job, metrics)
        return
    threads = max(1, torch.get_num_threads() // processes)
    waiting = [job for job in todo if job.role == "distilled"]
    number = 0
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin, (threads,)) as pool:
        running = {pool.submit(train, job, force): job for job in todo if job.role != "distilled"}
        while running or waiting:
            if not any(job.role == "teacher" for job in running.values()):
                running |= {pool.submit(train, job, force): job for job in waiting}
                waiting = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    future.result()
                    logged(job, metrics)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    print(f"{title(job)} failed", file=sys.stderr, flush=True)
                    raise
                number += 1
                print(f"[{number}/{len(todo)}] {title(job)}: done", file=sys.stderr, flush=True)


def begin(threads: int) -> None:
    """Begin a process of `work`: so many threads, and an end as soon as the command is no more."""
    torch.set_num_threads(threads)
    command = multiprocessing.parent_process()

    def follow() -> None:
        assert command is not None
        command.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def train(job: Job, force: bool = False) -> None:
    """Train and measure one model, and write its log."""
    log = run(
        job.config,
        job.role,
        job.seed,
        job.weights,
        name=job.table,
        called=job.method,
        teacher=job.teacher,
        checkpoint={teacher: last_weights(folder) for teacher, folder in job.teachers.items()},
        again=force,
    )
    write(job.log, log)


def logged(job: Job, metrics: list[str]) -> list[Log]:
    """Read the log of a finished run, with these metrics."""
    return [pick(log, metrics) for log in read(job.log)]


def title(job: Job) -> str:
    """Say what a job is: 'digits: cwd, seed 0'."""
    return f"{job.table}: {job.log.stem.replace('-seed', ', seed ')}"


def finished(job: Job) -> bool:
    """Whether there is the log of a run of the same config, taught by the same weights."""
    if not job.log.is_file():
        return False
    log = json.loads(job.log.read_text())
    if log["fingerprint"] != fingerprint(config_of(job.config, job.role, job.teacher)):
        sys.exit(f"{job.log} is of another version of this config: --force trains again, --out logs elsewhere")
    if log.get("teacher_weights", {}) != marks_of_weights(job.config, job.role, job.teacher):
        sys.exit(f"{job.log} is of other weights of the teacher: --force trains again, --out logs elsewhere")
    return True
