"""Train a student with or without a teacher, from an unmodified mmseg or mmdet config.

python tools/train.py STUDENT.py --teacher TEACHER.py --checkpoint teacher.pth --method cwd
python tools/train.py STUDENT.py --control          the same student and schedule, untaught
python tools/train.py DISTILLED.py                  a config that names densekd.Distiller
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from densekd import METHODS, control, distil, is_taught, leave, prepare, read_config, train


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", help="config of the teacher, a path or pkg::path; 'ema' for the student's average")
    parser.add_argument("--checkpoint", help="weights of the teacher")
    parser.add_argument("--method", choices=sorted(METHODS))
    parser.add_argument("--control", action="store_true", help="the same schedule without distillation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--work-dir", help="where checkpoints and logs go (default: work_dirs/<config>[-<method>])")
    parser.add_argument("--resume", nargs="?", const=True, default=False, help="from the last checkpoint, or this one")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override fields of CONFIG: a.b=value ...")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--unsafe-checkpoints",
        action="store_true",
        help="run the code that checkpoints and data files (.pkl) may contain; only for files that you trust",
    )
    args = parser.parse_args(arguments)
    if args.control and args.method:
        parser.error("--control trains without distillation, it takes no --method")
    if bool(args.method) != bool(args.teacher) and not args.control:
        parser.error("--method and --teacher go together")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Prepare the config and train."""
    args = parse(arguments)
    config = read_config(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    if args.control:
        config = control(config)
    elif args.method:
        checkpoint = {"checkpoint": args.checkpoint} if args.checkpoint else {}
        config = distil(config, teacher=args.teacher, method=args.method, unsafe=args.unsafe_checkpoints, **checkpoint)
    elif not is_taught(config):
        sys.exit(f"{args.config} names no densekd.Distiller: give --teacher and --method, or --control")
    suffix = "-control" if args.control else f"-{args.method}" if args.method else ""
    work_dir = args.work_dir or (config.get("work_dir") or f"work_dirs/{Path(args.config).stem}") + suffix
    config = prepare(
        config,
        work_dir=work_dir,
        seed=args.seed,
        amp=args.amp,
        resume=args.resume,
        launcher=args.launcher,
        unsafe=args.unsafe_checkpoints,
    )
    try:
        train(config)
        leave()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command with --resume continues from the last checkpoint")


if __name__ == "__main__":
    main()
