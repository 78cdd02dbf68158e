"""Train teacher, control and distilled student under one schedule, with several seeds; log each run, print the table.

python tools/compare.py configs/seg/pkd/camvid.py --seeds 3

CONFIG names a `densekd.Distiller` whose teacher is a config. The teacher is trained once, with seed 0, by the schedule
of its own config; the control is the distiller's student without it. Finished runs are not repeated, and the log of
another config is not overwritten without --force.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from comparison import Role, config_of, fingerprint, last_weights, run, side
from logs import ROOT, read, write
from report import table

from densekd.config import read_config


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and print the table of everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="control and distilled run with seeds 0 to SEEDS - 1")
    parser.add_argument("--out", type=Path, help="folder of the logs (default: results/<side>/<name>)")
    parser.add_argument("--work-dir", type=Path, help="folder of the weights (default: work_dirs/<side>/<name>)")
    parser.add_argument("--force", action="store_true", help="train again and replace the logs")
    args = parser.parse_args(arguments)
    config = read_config(args.config)
    name = f"{args.config.stem}-{args.config.resolve().parent.name}"
    out = args.out or ROOT / "results" / side(config) / name
    weights = args.work_dir or ROOT / "work_dirs" / side(config) / name
    todo: list[tuple[Role, int]] = []
    for role, seed in roles(args.seeds):
        path = out / f"{role}-seed{seed}.json"
        if args.force or not finished(path, fingerprint(config_of(config, role))):
            todo.append((role, seed))
    teacher = weights / "teacher-seed0"
    if any(role == "distilled" for role, _ in todo) and ("teacher", 0) not in todo and last_weights(teacher) is None:
        todo.insert(0, ("teacher", 0))  # its log is there, but its weights are not
    for number, (role, seed) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {name}: {role}, seed {seed}", file=sys.stderr, flush=True)
        log = run(config, role, seed, weights / f"{role}-seed{seed}", name=name, checkpoint=last_weights(teacher))
        write(out / f"{role}-seed{seed}.json", log)
    print(table(read(out)))


def roles(seeds: int) -> list[tuple[Role, int]]:
    """List the runs of a comparison, the teacher first."""
    students: list[Role] = ["control", "distilled"]
    return [("teacher", 0), *((role, seed) for seed in range(seeds) for role in students)]


def finished(path: Path, wanted: str) -> bool:
    """Whether `path` holds the log of a run of the same config."""
    if not path.is_file():
        return False
    if json.loads(path.read_text())["fingerprint"] != wanted:
        sys.exit(f"{path} is of another version of this config: --force trains again, --out logs elsewhere")
    return True


if __name__ == "__main__":
    main()
