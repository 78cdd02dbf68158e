"""Remove channels of a trained model: a smaller and faster plain model, with its config and weights.

    densekd prune CONFIG.py work_dirs/sparse --keep 0.6 backbone.layer4=0.2 --out work_dirs/pruned
    densekd train work_dirs/pruned/pruned.py --teacher CONFIG.py --checkpoint work_dirs/sparse --method sad

The channels whose batch norms scale them least go, with one threshold for each group of layers; channels that additions
couple go together. Train with the policy `sparse_scales` before, so that scales say what can go, and again afterwards:
`pruned.py` starts from the weights beside it, loads in mmdet and mmseg as it is, and learns from the unpruned model by
the method `sad`. Printed are parameters, FLOPs of one image, and the median latency of a forward, before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from densekd import read_config
from densekd.cli._overrides import add_cfg_options
from densekd.cli.inspect import quiet
from densekd.mmlab.config import override
from densekd.runs.pruning import CONFIG, Pruning, prune, write
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.mistakes import whole as whole_number
from kdlosses.cli.parser import Parser


def share(text: str) -> tuple[str, float]:
    """A share for all groups, or for one.

    >>> share("0.5"), share("backbone.layer4=0.2")
    (('', 0.5), ('backbone.layer4', 0.2))
    """
    name, _, number = text.rpartition("=")
    try:
        found = float(number)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1 or (not name and "=" in text):
        raise argparse.ArgumentTypeError(
            f"a share is a number above 0 and at most 1, for all groups or as GROUP=NUMBER, got {text!r}"
        )
    return name, found


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, dict[str, float]]:
    """Read the command line: the options, and the shares by group."""
    parser = Parser(__doc__, "densekd prune")
    parser.add_argument("config", help="config of the model, or of a distiller with it as student; a path or pkg::path")
    parser.add_argument("checkpoint", help="its weights: a file, or a work_dir for the latest one there")
    parser.add_argument(
        "--keep",
        type=share,
        nargs="+",
        default=[("", 0.5)],
        metavar="SHARE",
        help="of the scales of a group to keep: of all groups, and GROUP=SHARE of one; where none is for all, groups "
        "that are not named keep theirs (default: 0.5)",
    )
    parser.add_argument("--least", type=whole_number(1), default=8, help="channels that every layer keeps (default: 8)")
    parser.add_argument(
        "--size", type=whole_number(1), nargs=2, metavar=("H", "W"), help="of the image that is measured"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the config and the weights")
    parser.add_argument("--unsafe-checkpoints", action="store_true", help="run code that the checkpoint may contain")
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    for name, _ in args.keep:
        if sum(each == name for each, _ in args.keep) > 1:
            parser.error(f"--keep has two shares for {name or 'all groups'}")
    place_to_write(args.out, new=True)
    return args, dict(args.keep)


def main(arguments: list[str] | None = None) -> None:
    """Prune, print what is left, and write it."""
    args, keep = parse(arguments)
    config = override(read_config(args.config), args.cfg_options)
    with quiet():
        done = prune(config, args.checkpoint, keep, args.least, args.size and tuple(args.size), args.unsafe_checkpoints)
    print("\n".join(lines(done)))
    write(done, args.out)
    print(f"\n{args.out / CONFIG}: plain config, its weights beside it")


def lines(done: Pruning) -> list[str]:
    """Tables of the groups and of the costs."""
    before, after = done.before, done.after
    rows = [
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}", after.parameters / before.parameters),
        ("MFLOP", f"{before.flops / 1e6:,.1f}", f"{after.flops / 1e6:,.1f}", after.flops / before.flops),
        (
            "latency, ms",
            f"{before.milliseconds:.2f}",
            f"{after.milliseconds:.2f}",
            after.milliseconds / before.milliseconds,
        ),
    ]
    found = ["| group | scales | kept |", "| --- | --- | --- |"]
    found += [f"| {name} | {count} | {kept} |" for name, (count, kept) in done.found.groups.items()]
    height, width = done.size
    found += ["", f"| one image of {height} x {width} | before | after | change |", "| --- | --- | --- | --- |"]
    return found + [f"| {name} | {one} | {other} | {100 * (ratio - 1):+.1f} % |" for name, one, other, ratio in rows]
