"""Print the table of a comparison from its result logs.

    densekd report results/seg/camvid_fpn

Of each model it has mean ± sample standard deviation over the seeds.
"""

from __future__ import annotations

from kdlosses.cli.report import print_tables


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each path."""
    print_tables(__doc__, "densekd report", arguments)
