"""The two commands, `graphkd` and `densekd`.

A command is a folder of subcommands, `graphkd/cli/` or `densekd/cli/`: each file in it is one, with a `main(arguments)`
and the line that `--help` shows at the head of its docstring; files that begin with `_` are none. This package imports
the standard library alone until a subcommand is known, because torch takes seconds to import.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_HELP = {
    "graphkd": """Distill graph networks into students that need no graph.

  graphkd distill --graph digits --teacher sage --method glnn --seeds 3
""",
    "densekd": """Distill segmenters and detectors of OpenMMLab, from their own configs.

  densekd train STUDENT.py --teacher TEACHER.py --checkpoint teacher.pth --method cwd
""",
}


def graphkd(*command: str) -> None:
    """Run `graphkd`, with these arguments before those of the command line."""
    _run("graphkd", [*command, *sys.argv[1:]])


def densekd(*command: str) -> None:
    """Run `densekd`, with these arguments before those of the command line."""
    _run("densekd", [*command, *sys.argv[1:]])


def commands(package: str) -> dict[str, Path]:
    """Return the files of a package's subcommands by their names."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return {file.stem: file for file in sorted((Path(spec.origin).parent / "cli").glob("[!_]*.py"))}


def help_of(package: str) -> str:
    """Say what a command is for: an example, then its subcommands."""
    first = {name: _first_line(file) for name, file in commands(package).items()}
    width = max(map(len, first))
    lines = [_HELP[package], f"usage: {package} COMMAND ...", "", "commands:"]
    lines += [f"  {name:<{width}}  {line}" for name, line in first.items()]
    return "\n".join([*lines, "", f"`{package} COMMAND --help` shows an example and the options of one."])


def _first_line(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return said.partition("\n")[0]


def _run(package: str, arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_of(package))
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(f"{package} {version('graphdensekd')}")
        sys.exit(0)
    name, known = arguments[0], commands(package)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"see {package} --help"
        print(f"{package} has no command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    sys.path.append(os.getcwd())  # last, where it hides nothing: for `module:name` of one's own
    from kdlosses.cli.mistakes import one_sentence

    with one_sentence():
        import_module(f"{package}.cli.{name}").main(list(arguments[1:]))
