"""Say which methods fit a student and its teacher: taps, weights, cost of a step; write a config for each.

    densekd suggest STUDENT.py --teacher TEACHER.py --checkpoint teacher.pth --out suggested
    densekd compare suggested/*.py --seeds 3

Each method is tried on some batches of the student's training data. 'measured' is the weight at which the entry pulls
at its tap as hard as the task, shared among the entries of the method: `balance='auto'`, which the configs in --out
have, measures it in the first steps of the training. A published weight that is many times as large leaves the labels
little say in a short training. No method is trained and none is tested: which one is best, `densekd compare` tells.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from densekd import is_taught, read_config
from densekd.cli._overrides import add_cfg_options
from densekd.cli.inspect import quiet
from densekd.mmlab.config import override
from densekd.runs.suggestion import Suggestion, suggest
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.mistakes import whole as whole_number
from kdlosses.cli.parser import Parser
from kdlosses.whole import whole


def main(arguments: list[str] | None = None) -> None:
    """Print a table as it is measured, and write the configs."""
    parser = Parser(__doc__, "densekd suggest")
    parser.add_argument("config", help="config of the student; a path or pkg::path")
    parser.add_argument("--teacher", required=True, help="config of the teacher; hf:FOLDER, lite0, module:name")
    parser.add_argument("--checkpoint", help="weights of the teacher")
    parser.add_argument(
        "--batches", type=whole_number(1), default=5, help="how many batches each method sees (default: 5)"
    )
    parser.add_argument("--out", type=Path, help="new folder for a config of each method that fits")
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    if args.teacher == "ema" and args.checkpoint:
        parser.error("--teacher ema is the student's own average, it takes no --checkpoint")
    if args.out is not None:
        place_to_write(args.out, new=True)
    config = override(read_config(args.config), args.cfg_options)
    if is_taught(config):
        sys.exit(f"{args.config} names a distiller already: give the config of its student")
    print(f"{'method':<14}{'step':>6}  {'published':>10}{'measured':>10}  entry: taps", flush=True)
    unfit, found = [], suggest(config, args.teacher, args.checkpoint, args.batches)
    while True:
        with quiet():
            each = next(found, None)
        if each is None:
            break
        if each.reason:
            unfit.append(each)
            continue
        print("\n".join(lines(each)), flush=True)
        if args.out is not None:
            source = Path(config.filename).resolve()
            if args.cfg_options:  # what overrides the student's config belongs to it
                source = args.out.resolve() / "student" / source.name
                with whole(source) as file:
                    config.dump(file)
            args.out.mkdir(parents=True, exist_ok=True)
            with whole(args.out / f"{each.method}.py") as file:
                file.write_text(text(each, source, args))
    print("\ndo not fit:" if unfit else "")
    for each in unfit:
        print(f"{each.method:<14}{each.reason}")


def lines(each: Suggestion) -> list[str]:
    """Lines of the table, one for each entry.

    >>> from densekd.runs.suggestion import Entry
    >>> lines(Suggestion("cwd", [Entry("cwd", "neck", 3.0, 0.51)], 1.25, ""))
    ['cwd             1.25           3      0.51  cwd: neck']
    """
    found = []
    for n, entry in enumerate(each.entries):
        first = (each.method, f"{each.step:.2f}") if n == 0 else ("", "")
        measured = "-" if entry.measured is None else f"{entry.measured:.3g}"
        found.append(f"{first[0]:<14}{first[1]:>6}  {entry.published:>10.3g}{measured:>10}  {entry.name}: {entry.taps}")
    return found


def text(each: Suggestion, source: Path, args: argparse.Namespace) -> str:
    """A config of the method on the student's."""
    weights = ", ".join(f"{e.name} {e.measured:.3g}" for e in each.entries if e.measured is not None)
    teacher = args.teacher if not Path(args.teacher).is_file() else str(Path(args.teacher).resolve())
    given = f"    checkpoint={_path(args.checkpoint)!r},\n" if args.checkpoint else ""
    return (
        f"# {each.method} on {source.name}"
        + (f"; weights measured on {args.batches} batches: {weights}." if weights else ".")
        + f"\n_base_ = {str(source)!r}\n"
        "model = dict(\n    _delete_=True,\n    type='densekd.Distiller',\n    student=_base_.model,\n"
        f"    teacher={teacher!r},\n{given}    method={each.method!r},\n    balance='auto',\n)\n"
    )


def _path(given: str) -> str:
    return str(Path(given).expanduser().resolve()) if Path(given).expanduser().exists() else given
