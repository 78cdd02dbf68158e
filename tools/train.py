"""Train a student with or without a teacher, from an unmodified mmseg or mmdet config.

python tools/train.py STUDENT.py --teacher TEACHER.py --checkpoint teacher.pth --method cwd
python tools/train.py STUDENT.py --control          the same student and schedule, untaught
python tools/train.py DISTILLED.py                  a config that names densekd.Distiller
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mistakes import one_sentence
from overrides import add_cfg_options, method_name

from densekd import METHODS, control, distill, is_taught, prepare, read_config, shutdown_distributed, train
from densekd.config import override
from densekd.runs.resume import checkpoints_in


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", help="config of the teacher, a path or pkg::path; 'ema' for the student's average")
    parser.add_argument("--checkpoint", help="weights of the teacher")
    parser.add_argument("--method", type=method_name, help=f"one of {', '.join(sorted(METHODS))}, or module:name")
    parser.add_argument("--control", action="store_true", help="the same schedule without distillation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--work-dir", help="where checkpoints and logs go (default: work_dirs/<config>[-<method>])")
    parser.add_argument("--resume", nargs="?", const=True, default=False, help="from the last checkpoint, or this one")
    parser.add_argument("--overwrite", action="store_true", help="remove the checkpoints of an earlier run there")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    add_cfg_options(parser)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--unsafe-checkpoints",
        action="store_true",
        help="run the code that checkpoints and data files (.pkl) may contain; only for files that you trust",
    )
    args = parser.parse_args(arguments)
    for option in ("method", "teacher", "checkpoint"):
        if args.control and getattr(args, option):
            parser.error(f"--control trains without distillation, it takes no --{option}")
    if bool(args.method) != bool(args.teacher):
        parser.error("--method and --teacher go together")
    if args.teacher == "ema" and args.checkpoint:
        parser.error("--teacher ema is the student's own average, it takes no --checkpoint")
    if args.resume and args.overwrite:
        parser.error("--resume goes on from checkpoints that --overwrite would remove")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Prepare the config and train."""
    args = parse(arguments)
    config = override(read_config(args.config), args.cfg_options)
    if args.control:
        config = control(config)
    elif args.method:
        checkpoint = {"checkpoint": args.checkpoint} if args.checkpoint else {}
        config = distill(config, teacher=args.teacher, method=args.method, unsafe=args.unsafe_checkpoints, **checkpoint)
    elif not is_taught(config):
        sys.exit(f"{args.config} names no densekd.Distiller: give --teacher and --method, or --control")
    else:
        config.model.update({"checkpoint": args.checkpoint} if args.checkpoint else {})
        config.model.update({"unsafe": True} if args.unsafe_checkpoints else {})
    suffix = "-control" if args.control else f"-{args.method.rpartition(':')[2]}" if args.method else ""
    work_dir = args.work_dir or (config.get("work_dir") or f"work_dirs/{Path(args.config).stem}") + suffix
    old = [] if args.resume or config.get("resume") else checkpoints_in(work_dir)
    if old and not args.overwrite:
        sys.exit(
            f"{work_dir} holds checkpoints of an earlier run, {old[-1].name} among them: --resume goes on with it, "
            "--work-dir puts this run elsewhere, --overwrite removes them"
        )
    config = prepare(
        config,
        work_dir=work_dir,
        seed=args.seed,
        amp=args.amp,
        resume=args.resume,
        launcher=args.launcher,
        unsafe=args.unsafe_checkpoints,
    )
    if int(os.environ.get("RANK", 0)) == 0:
        for path in [*old, Path(work_dir) / "last_checkpoint"] if args.overwrite else ():
            path.unlink(missing_ok=True)
    try:
        train(config)
        shutdown_distributed()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command with --resume continues from the last checkpoint")


if __name__ == "__main__":
    with one_sentence():
        main()
