"""Test a student, taught or not: its checkpoint runs in the plain mmseg or mmdet model.

    densekd test STUDENT.py work_dirs/student-cwd

No teacher is built. A work_dir stands for its latest checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

from densekd import control, load_weights, read_config
from densekd.cli._overrides import add_cfg_options
from densekd.mmlab.config import override, regions_of
from densekd.runs.experiment import check_split, measure_boundaries
from kdlosses.cli.parser import Parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd test")
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("checkpoint", help="a work_dir for its latest one, or any file of the plain student")
    parser.add_argument(
        "--work-dir", help="where the log goes (default: a new folder in `test` next to the checkpoint)"
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation, as the config's tta_model says")
    add_cfg_options(parser)
    parser.add_argument(
        "--unsafe-checkpoints",
        action="store_true",
        help="run the code that the checkpoint and data files (.pkl) may contain; only for files that you trust",
    )
    return parser.parse_args(arguments)


def new_folder(checkpoint: str, name: str) -> Path:
    """Return a folder that is not there yet, in the work_dir of a checkpoint; in `work_dirs` for one from the web.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    path, web = Path(checkpoint).expanduser(), "://" in checkpoint
    if not web and not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint}")
    home = Path("work_dirs") / name if web else path if path.is_dir() else path.parent
    start = home / "test" / f"{name}-{time.strftime('%Y%m%d_%H%M%S')}"
    tries = itertools.chain([start], (start.with_name(f"{start.name}-{i}") for i in itertools.count(2)))
    return next(folder for folder in tries if not folder.exists())


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Build the plain student, load its weights, test, and return the metrics."""
    from mmengine.config import ConfigDict
    from mmengine.runner import Runner

    from densekd.checkpoint import refuse_unsafe_checkpoints

    args = parse(arguments)
    refuse_unsafe_checkpoints(not args.unsafe_checkpoints)
    config = read_config(args.config)
    if regions_of(config):  # its texts are in the folder that the options may name
        config = control(override(config, args.cfg_options))
    else:
        config = override(control(config), args.cfg_options)
    check_split(config, "test", needed=True)
    measure_boundaries(config)
    name = Path(args.config).stem
    folder = new_folder(args.checkpoint, name)
    config.work_dir = args.work_dir or str(folder)
    config.experiment_name = (
        f"{config.get('experiment_name') or name}-test-{time.time_ns()}"  # mmengine shares loggers between equal names
    )
    config.load_from = None  # here weights must fit exactly, mmengine would only warn
    config.resume = False
    if args.tta:
        if "tta_model" not in config or "tta_pipeline" not in config:
            raise ValueError(f"{args.config} has no tta_model and tta_pipeline, which --tta needs")
        config.model = ConfigDict(config.tta_model, module=config.model)
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
    runner = Runner.from_cfg(config)
    load_weights(runner.model.module if args.tta else runner.model, args.checkpoint, args.unsafe_checkpoints)
    return runner.test()
