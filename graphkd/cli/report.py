"""Print the table of a comparison from its result logs.

    graphkd report results/graph/refined_teacher-cora.json

Of each model it has mean ± sample standard deviation over the seeds.
"""

from __future__ import annotations

from kdlosses.cli.report import print_tables


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each path."""
    print_tables(__doc__, "graphkd report", arguments)
