"""Numbers as a text table."""

from __future__ import annotations

from collections.abc import Mapping


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Format numbers by row and column as a text table; `-` for a missing value.

    >>> print(table({"teacher": {"tran": 0.8125, "all_nodes ms": 3.25}, "student": {"tran": 0.84}}))
              tran  all_nodes ms
    teacher  0.812         3.250
    student  0.840             -
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns]] + [
        [name, *(f"{row[column]:.3f}" if column in row else "-" for column in columns)] for name, row in rows.items()
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
