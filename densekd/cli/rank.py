"""Search the student of a config by a score that needs no training; write a config of the best.

    densekd rank densekd::seg/diswot/digits.py --out found.py
    densekd compare found.py --seeds 3

The score is that of DisWOT, between an untrained student and the untrained teacher on one batch of the training data.
CONFIG names a distiller, and says in `search` what may be chosen of its student, see `densekd.runs.ranking.search`.
Printed are the ten best that the search met.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densekd import build_model, read_config
from densekd.cli._overrides import add_cfg_options
from densekd.cli.inspect import quiet
from densekd.mmlab.config import override
from densekd.plain.ranking import parameters
from densekd.runs.ranking import chosen, fields, search
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.mistakes import whole as whole_number
from kdlosses.cli.parser import Parser
from kdlosses.whole import whole


def main(arguments: list[str] | None = None) -> None:
    """Search, print a table, and write the config."""
    parser = Parser(__doc__, "densekd rank")
    parser.add_argument("config", help="config of a distiller with `search`; a path or pkg::path")
    parser.add_argument(
        "--seeds", type=whole_number(1), default=3, help="seeds 0 to SEEDS - 1, to average over (default: 3)"
    )
    parser.add_argument("--out", type=Path, help="new file for the config of the best")
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    if args.out is not None and args.out.exists():
        parser.error(f"{args.out} exists; remove it or choose another name")
    if args.out is not None:
        place_to_write(args.out.parent, new=False)
    config = override(read_config(args.config), args.cfg_options)
    with quiet():
        found = search(config, range(args.seeds))
        best = sorted(found.scored, key=lambda each: -each[1])[:10]
        sizes = [parameters(build_model(chosen(config, one))[0]) for one, _ in best]
    lines = ["| student | parameters | score |", "| --- | --- | --- |"]
    for (one, score), size in zip(best, sizes):
        lines.append(f"| {', '.join(told(config.search.space, one))} | {size:,} | {score:.4f} |")
    print("\n".join(lines))
    if args.out is not None:
        with whole(args.out) as file:
            given = {**args.cfg_options, **fields(found.best)}
            file.write_text(text(str(Path(config.filename).resolve()), given))


def told(space: Any, one: dict[str, Any]) -> list[str]:
    """A candidate in words: a value, or the number of a choice of several fields, from 1.

    >>> told({"model.depth": [18, 34], "width": [{"a": 1}, {"a": 2}]}, {"model.depth": 34, "width": {"a": 2}})
    ['depth 34', 'width 2 of 2']
    """
    found = []
    for name, choice in one.items():
        which = (
            f"{list(space[name]).index(choice) + 1} of {len(space[name])}" if isinstance(choice, dict) else f"{choice}"
        )
        found.append(f"{name.rpartition('.')[2]} {which}")
    return found


def text(source: str, given: dict[str, Any]) -> str:
    """A config on another one, with these fields.

    >>> print(text("base.py", {"model.student.depth": 18, "model.student.width": 8}), end="")
    # Found by `densekd rank`.
    _base_ = 'base.py'
    model = {'student': {'depth': 18, 'width': 8}}
    """
    tree: dict[str, Any] = {}
    for dotted, value in given.items():
        *path, last = dotted.split(".")
        level = tree
        for name in path:
            level = level.setdefault(name, {})
        level[last] = value
    lines = [f"{name} = {value!r}" for name, value in tree.items()]
    return "\n".join(["# Found by `densekd rank`.", f"_base_ = {source!r}", *lines, ""])
