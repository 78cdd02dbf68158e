"""Train a student with or without a teacher, from an unmodified mmseg or mmdet config.

    densekd train STUDENT.py --teacher TEACHER.py --checkpoint teacher.pth --method cwd
    densekd train STUDENT.py --control          the same student and schedule, untaught
    densekd train DISTILLED.py                  a config that names densekd.Distiller
    densekd train ADAPTED.py --checkpoint source.pth      a detector on images without labels, see densekd.MeanTeacher
    densekd train OPEN.py                       a detector that learns from regions on disk, see densekd.EZADRoIHead

What it leaves in the work_dir are checkpoints of the plain student.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from densekd import METHODS, control, distill, is_taught, prepare, read_config, shutdown_distributed, train
from densekd.cli._overrides import add_cfg_options, method_name
from densekd.mmlab.config import cache_in, is_semi, override, regions_of
from densekd.runs.comparison import count_parameters, method, named_metrics
from densekd.runs.experiment import save_best
from densekd.runs.resume import checkpoints_in, last_whole_checkpoint
from densekd.runs.strategy import STRATEGIES
from kdlosses.cli.parser import Parser, typed


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd train")
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", help="config of the teacher; 'ema', hf:FOLDER, lite0, module:name")
    parser.add_argument("--checkpoint", help="weights of the teacher; of the detector that is adapted")
    parser.add_argument("--method", type=method_name, help=f"one of {', '.join(sorted(METHODS))}, or module:name")
    parser.add_argument(
        "--teacher-cache",
        metavar="DIR",
        help="folder of the teacher's outputs: it runs once an image, not each step",
    )
    parser.add_argument(
        "--balance", choices=["auto"], help="weigh the entries by their gradients in place of the published weights"
    )
    parser.add_argument("--control", action="store_true", help="the same schedule without distillation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--work-dir", help="where checkpoints and logs go (default: work_dirs/<config>[-<method>])")
    parser.add_argument("--resume", nargs="?", const=True, default=False, help="from the last checkpoint, or this one")
    parser.add_argument("--overwrite", action="store_true", help="remove the checkpoints of an earlier run there")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    add_cfg_options(parser)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--strategy", choices=[*STRATEGIES], help="how processes share the model")
    parser.add_argument(
        "--unsafe-checkpoints",
        action="store_true",
        help="run the code that checkpoints and data files (.pkl) may contain; only for files that you trust",
    )
    args = parser.parse_args(arguments)
    for option in ("method", "teacher", "checkpoint", "teacher_cache", "balance"):
        if args.control and getattr(args, option):
            parser.error(f"--control trains without distillation, it takes no --{option.replace('_', '-')}")
    if bool(args.method) != bool(args.teacher):
        parser.error("--method and --teacher go together")
    if args.teacher == "ema" and args.checkpoint:
        parser.error("--teacher ema is the student's own average, it takes no --checkpoint")
    weights = args.checkpoint
    if weights and weights != "random" and "://" not in weights and not Path(weights).expanduser().exists():
        parser.error(f"--checkpoint {weights}: there is no such file or folder")
    if args.resume and args.overwrite:
        parser.error("--resume goes on from checkpoints that --overwrite would remove")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Prepare the config and train."""
    args = parse(arguments)
    config = override(read_config(args.config), args.cfg_options)
    if is_semi(config) and (args.control or args.method or args.balance or args.teacher_cache):
        sys.exit(f"{args.config} adapts a detector to images without labels: it takes --checkpoint alone")
    regions = None if args.control else regions_of(config)
    if args.control:
        config = control(config)
    elif args.method:
        checkpoint = {"checkpoint": args.checkpoint} if args.checkpoint else {}
        config = distill(config, teacher=args.teacher, method=args.method, unsafe=args.unsafe_checkpoints, **checkpoint)
    elif regions is not None:
        given = {"--checkpoint": args.checkpoint, "--balance": args.balance, "--teacher-cache": args.teacher_cache}
        for option, value in {"--teacher": args.teacher, **given}.items():
            if value is not None:
                sys.exit(f"{args.config} learns from regions in {regions}, and has no {option}: leave it out")
    elif not (is_taught(config) or is_semi(config)):
        sys.exit(f"{args.config} names no densekd.Distiller: give --teacher and --method, or --control")
    else:
        config.model.update({"checkpoint": args.checkpoint} if args.checkpoint else {})
        config.model.update({"unsafe": True} if args.unsafe_checkpoints else {})
    if args.balance:
        config.model.balance = args.balance
    if args.teacher_cache is not None:
        cache_in(config, args.teacher_cache)
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
        strategy=args.strategy,
        unsafe=args.unsafe_checkpoints,
    )
    if int(os.environ.get("RANK", 0)) == 0:
        for path in [*old, Path(work_dir) / "last_checkpoint"] if args.overwrite else ():
            path.unlink(missing_ok=True)
    try:
        runner = train(config)
        if int(os.environ.get("RANK", 0)) == 0:
            untaught = "ema, the detector's average" if is_semi(config) else "none: this is the control"
            untaught = f"regions of {regions}" if regions is not None else untaught
            teacher = teacher_name(config.model.teacher) if is_taught(config) else untaught
            print(summary(runner, args.config, teacher, method(config, "distilled") if is_taught(config) else ""))
        shutdown_distributed()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command with --resume continues from the last checkpoint")


def summary(runner: Runner, source: str, teacher: str, called: str) -> str:
    """Say what a training left: who learned from whom, how well on validation data, where the weights are."""
    model: Any = runner.model
    student = getattr(model, "module", model)
    kind = type(student).__name__.removeprefix("Distilled")
    divided = (runner.cfg.get("strategy") or {}).get("type") in ("FSDPStrategy", "DeepSpeedStrategy")
    size = "divided among the processes" if divided else f"{count_parameters(student):,} parameters"
    scores = {
        key.removeprefix("val/"): buffer.current()
        for key, buffer in runner.message_hub.log_scalars.items()
        if key.startswith("val/") and key not in ("val/time", "val/data_time")
    }
    metrics = named_metrics(scores, save_best(runner.cfg)) if scores else {}
    folder = Path(os.path.relpath(runner.work_dir))
    weights = [path for path in checkpoints_in(folder) if path.name.startswith("best_")]
    last = last_whole_checkpoint(folder)
    written = folder / Path(source.rpartition("::")[2]).name  # the config as it was run, with what overrode it
    config = str(written) if written.is_file() else source
    lines = {
        "student": f"{source} ({kind}, {size})",
        "teacher": teacher,
        "method": called,
        "validation": ", ".join(f"{key} {value:.2f}" for key, value in metrics.items() if value is not None) or "none",
        "weights": os.path.relpath(last) if last else "none: default_hooks.checkpoint writes none",
        "best": ", ".join(map(str, weights)),
        "next": _next(runner.cfg, config, weights[-1] if weights else folder) if last else "",
    }
    return "\n" + "\n".join(f"{key:<12}{line}" for key, line in lines.items() if line)


def _next(config: Config, source: str, weights: Path) -> str:
    if config.get("test_dataloader"):
        return f"{typed('densekd test', 'test.py')} {shlex.join([source, str(weights)])}"
    return f"{typed('densekd export', 'export.py')} {shlex.join([str(weights), source])} --weights student.pth"


def teacher_name(teacher: Any) -> str:
    """Name a teacher of a distiller's config, or several.

    >>> teacher_name("ema"), teacher_name(dict(type="FCOS")), teacher_name(dict(a="big/one.py", b=dict(type="FCOS")))
    ("ema, the student's average", 'FCOS', 'a: big/one.py, b: FCOS')
    """
    if isinstance(teacher, Mapping):
        if "type" in teacher or "model" in teacher:
            return str(teacher.get("type") or teacher_name(teacher["model"]))
        return ", ".join(f"{name}: {teacher_name(each)}" for name, each in teacher.items())
    return "ema, the student's average" if teacher == "ema" else str(teacher)
