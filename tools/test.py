"""Test a student, taught or not: its checkpoint runs in the plain mmseg or mmdet model, no teacher is built.

python tools/test.py STUDENT.py work_dirs/student-cwd/iter_1000.pth [--tta]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from densekd import control, load_weights, read_config


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("checkpoint", help="what training left, or any checkpoint of the plain student")
    parser.add_argument("--work-dir", help="where the log goes (default: the folder of the checkpoint)")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation, as the config's tta_model says")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override fields of CONFIG: a.b=value ...")
    parser.add_argument(
        "--unsafe-checkpoints",
        action="store_true",
        help="run the code that the checkpoint and data files (.pkl) may contain; only for files that you trust",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Build the plain student, load its weights, test, and return the metrics."""
    from mmengine.config import ConfigDict
    from mmengine.runner import Runner

    from densekd.checkpoint import refuse_unsafe_checkpoints

    args = parse(arguments)
    refuse_unsafe_checkpoints(not args.unsafe_checkpoints)
    config = control(read_config(args.config))
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    config.work_dir = args.work_dir or str(Path(args.checkpoint).parent)
    config.load_from = None  # here weights must fit exactly, mmengine would only warn
    if args.tta:
        if "tta_model" not in config or "tta_pipeline" not in config:
            raise ValueError(f"{args.config} has no tta_model and tta_pipeline, which --tta needs")
        config.model = ConfigDict(config.tta_model, module=config.model)
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
    runner = Runner.from_cfg(config)
    load_weights(runner.model.module if args.tta else runner.model, args.checkpoint, args.unsafe_checkpoints)
    return runner.test()


if __name__ == "__main__":
    main()
