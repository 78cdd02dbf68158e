"""Train teacher, control and distilled students under one schedule, with several seeds; log each run, print the table.

python tools/compare.py configs/seg/pkd/camvid.py --seeds 3
python tools/compare.py configs/seg/*/scenes_fpn.py --seeds 3 --jobs 2     many methods in one table

CONFIG names a `densekd.Distiller` whose teacher is a config. The teacher is trained once, with seed 0, by the schedule
of its own config, unless it reads nothing but labels; the control is the distiller's student without it, trained once
for each seed. Several configs are one table and share both: they must agree in all but the distiller; one that has a
teacher of its own has it trained, too. Finished runs are not repeated: the same command goes on where it was stopped,
and with one config more it trains what is new. The log of another version of a config is not overwritten without
--force.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import torch
from comparison import Role, config_of, differences, fingerprint, has_trained_teacher, last_weights, method, run, side
from logs import ROOT, read, write
from mmengine.config import Config
from report import ROLES, table

from densekd.config import read_config


class Job(NamedTuple):
    """One run: what is trained, by which name and seed; where its log and its weights go, where its teacher's are."""

    config: Path
    role: Role
    method: str
    seed: int
    table: str
    log: Path
    weights: Path
    teacher: Path


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and print the table of what was asked for."""
    args = parse(arguments)
    configs = {path: read_config(path) for path in args.configs}
    name, methods = named(configs)
    check_one_budget(configs)
    kind = side(next(iter(configs.values())))
    out = args.out or ROOT / "results" / kind / name
    weights = args.work_dir or ROOT / "work_dirs" / kind / name
    jobs = plan(configs, methods, args.seeds, name, out, weights)
    todo = [job for job in jobs if args.force or not finished(job, configs[job.config])]
    wanted = {job.teacher for job in todo if job.role == "distilled"}
    for job in jobs:  # its log is there, but its weights are not
        if job.weights in wanted and job not in todo and last_weights(job.weights) is None:
            todo.insert(0, job)
    work(todo, args.jobs)
    print(table([log for job in jobs for log in read(job.log)]))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG")
    parser.add_argument("--seeds", type=int, default=3, help="control and distilled runs with seeds 0 to SEEDS - 1")
    parser.add_argument("--out", type=Path, help="folder of the logs (default: results/<side>/<name>)")
    parser.add_argument("--work-dir", type=Path, help="folder of the weights (default: work_dirs/<side>/<name>)")
    parser.add_argument("--force", action="store_true", help="train again and replace the logs")
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes that share the cores; latencies are then those of a busy machine"
    )
    return parser.parse_args(arguments)


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


def check_one_budget(configs: dict[Path, Config]) -> None:
    """Stop where two configs are unlike in more than the way that the student is taught."""
    (path, first), *others = configs.items()
    expected = config_of(first, "control")
    for other, config in others:
        fields = differences(expected, config_of(config, "control"))
        if fields:
            sys.exit(f"{path} and {other} cannot share a control, which differs in {', '.join(fields[:5])}")


def plan(
    configs: dict[Path, Config], methods: dict[Path, str], seeds: int, name: str, out: Path, weights: Path
) -> list[Job]:
    """List all runs: each teacher once, controls, then the methods seed by seed, so that a stopped table is fair."""

    def job(path: Path, role: Role, called: str, seed: int, file: str) -> Job:
        run_name = f"{file}-seed{seed}"
        return Job(path, role, called, seed, name, out / f"{run_name}.json", weights / run_name, teachers[of[path]])

    of = {
        path: fingerprint(config_of(config, "teacher")) if has_trained_teacher(config) else ""
        for path, config in configs.items()
    }
    common = Counter(of.values()).most_common()
    main, *rare = (mark for mark, _ in sorted(common, key=lambda each: not each[0]))  # one that is trained, if any is
    owners = {mark: next(path for path in configs if of[path] == mark) for mark in (main, *rare)}
    first = owners[main]
    files = {mark: "teacher" if mark == main else f"teacher_of_{methods[path]}" for mark, path in owners.items()}
    teachers = {mark: weights / f"{file}-seed0" for mark, file in files.items()}
    jobs = [
        job(path, "teacher", "supervised" if mark == main else methods[path], 0, files[mark])
        for mark, path in owners.items()
        if mark
    ]
    jobs += [job(first, "control", "supervised", seed, "control") for seed in range(seeds)]
    for seed in range(seeds):
        for path, called in methods.items():
            jobs.append(job(path, "distilled", called, seed, called if len(configs) > 1 else "distilled"))
    return jobs


def work(todo: list[Job], processes: int) -> None:
    """Train one model after the other or several at a time, those with a teacher after the others."""
    if processes == 1:
        for number, job in enumerate(todo, 1):
            print(f"[{number}/{len(todo)}] {title(job)}", file=sys.stderr, flush=True)
            train(job)
        return
    threads = max(1, torch.get_num_threads() // processes)
    alone = [job for job in todo if job.role != "distilled"]
    taught = [job for job in todo if job.role == "distilled"]
    number = 0
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        for jobs in (alone, taught):
            running = {pool.submit(train, job): job for job in jobs}
            for future in as_completed(running):
                if future.exception() is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    print(f"{title(running[future])} failed", file=sys.stderr, flush=True)
                future.result()
                number += 1
                print(f"[{number}/{len(todo)}] {title(running[future])}: done", file=sys.stderr, flush=True)


def train(job: Job) -> None:
    """Train and measure one model, and write its log."""
    config, checkpoint = read_config(job.config), last_weights(job.teacher)
    log = run(config, job.role, job.seed, job.weights, name=job.table, called=job.method, checkpoint=checkpoint)
    write(job.log, log)


def title(job: Job) -> str:
    """Say what a job is: 'digits: cwd, seed 0'."""
    return f"{job.table}: {job.log.stem.replace('-seed', ', seed ')}"


def finished(job: Job, config: Config) -> bool:
    """Whether there is the log of a run of the same config."""
    if not job.log.is_file():
        return False
    if json.loads(job.log.read_text())["fingerprint"] != fingerprint(config_of(config, job.role)):
        sys.exit(f"{job.log} is of another version of this config: --force trains again, --out logs elsewhere")
    return True


if __name__ == "__main__":
    main()
