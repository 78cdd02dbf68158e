"""Draw what teacher, control and taught students make of images, and say where they differ.

    densekd maps 'densekd::seg/*/scenes_fpn' --within 3 --seeds 3
    densekd maps densekd::bev/unidistill/lidar_to_camera_kitti_frame.py

`densekd compare` with the same configs trains them before; this reads their weights.

Of segmenters: which pixels near an edge of the labels the control gets wrong, the student, or both, on some images of
the validation set; and a table, over all of them, of the share of wrong pixels by their distance to an edge. Of
detectors in bird's-eye view: the maps of the ground of the first frames of the training set, and how far they are from
the teacher's. Both are written into a folder next to the logs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from densekd.cli._error_maps import draw_errors
from densekd.cli._ground_maps import draw_ground
from densekd.cli.compare import add_table, check_table, compared, plan, weighed
from densekd.edges import WIDTH
from densekd.runs.comparison import side
from kdlosses.cli.mistakes import whole
from kdlosses.cli.parser import Parser


def main(arguments: list[str] | None = None) -> None:
    """Look at the models, draw, write, print the table."""
    args = parse(arguments)
    given, name, called = compared(args)
    configs, name, methods = weighed(given, name, called, args.balance)
    kind = side(next(iter(configs.values())))
    out = args.out or Path("results") / kind / name / "maps"
    weights = args.work_dir or Path("work_dirs") / kind / name
    if kind == "seg":
        jobs = plan(configs, methods, args.seeds, name, out, weights)
        print(draw_errors(jobs, name, args.within, args.frames or 4, out))
    elif kind == "bev" and len(configs) == 1:
        print(draw_ground(next(iter(configs.values())), name, args.frames or 1, out, weights))
    else:
        what = f"{len(configs)} configs" if kind == "bev" else f"a config of side {kind!r}"
        raise ValueError(f"maps are of segmenters, or of one pair of detectors in bird's-eye view; got {what}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd maps")
    add_table(parser)
    parser.add_argument("--frames", type=whole(1), help="how many images to draw (default: 4; in bird's-eye view 1)")
    parser.add_argument("--within", type=whole(1), default=WIDTH, help=f"of an edge, in pixels (default: {WIDTH})")
    parser.add_argument("--seeds", type=whole(1), default=1, help="of the table (default: 1); seed 0 is drawn")
    parser.add_argument("--out", type=Path, help="folder for pictures and log (default: results/<side>/<name>/maps)")
    parser.add_argument("--work-dir", type=Path, help="folder of the weights (default: work_dirs/<side>/<name>)")
    args = parser.parse_args(arguments)
    check_table(parser, args)
    return args
