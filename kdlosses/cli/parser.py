"""The command line of a subcommand: its help shows an example first, then the options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


class Parser(argparse.ArgumentParser):
    r"""Says what its module's docstring says, examples included, then usage and options.

    Args:
        doc: the docstring; its first paragraph is followed by an indented example.
        command: what people type, such as `densekd train`. Where a file of `tools/` was started, that is said instead.

    >>> print(Parser("Add numbers.\n\n    densekd add 1 2\n", "densekd add").format_help().partition("  -h")[0])
    Add numbers.
    <BLANKLINE>
        densekd add 1 2
    <BLANKLINE>
    usage: densekd add [-h]
    <BLANKLINE>
    options:
    <BLANKLINE>
    """

    def __init__(self, doc: str | None, command: str) -> None:
        started = Path(sys.argv[0]).name
        super().__init__(
            prog=started if is_tool() else command,
            description=(doc or "").replace(command, typed(command, started)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def format_help(self) -> str:
        """The description, then usage and options."""
        said, self.description = (self.description or "").strip(), None
        try:
            return f"{said}\n\n{super().format_help()}"
        finally:
            self.description = said


def is_tool() -> bool:
    """Whether a file of `tools/` was started, and not the command."""
    started = Path(sys.argv[0]).absolute()
    return started.parent.name == "tools" and started.suffix == ".py"


def typed(command: str, tool: str) -> str:
    """Return what people type who started this program as they did: `densekd test`, or `python tools/test.py`."""
    return f"python tools/{tool}" if is_tool() else command
