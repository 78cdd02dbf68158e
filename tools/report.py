"""Print the table of comparisons from their result logs: python tools/report.py results/seg/camvid-pkd ..."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from logs import Log, read

ROLES = ("teacher", "control", "distilled")


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", type=Path, nargs="+", help="folders of logs, or single files")
    args = parser.parse_args(arguments)
    print("\n\n".join(table(read(path)) for path in args.paths))


def table(logs: Sequence[Log]) -> str:
    """Format logs as Markdown: for each model mean ± sample standard deviation over its seeds.

    The difference is taken seed by seed against the control. A column that would be empty is left out.
    """
    models = sorted({(log["role"], log["method"]) for log in logs}, key=lambda model: (ROLES.index(model[0]), model[1]))
    runs = {
        model: sorted((log for log in logs if model == (log["role"], log["method"])), key=_seed) for model in models
    }
    shared = [key for key in logs[0]["metrics"] if all(log["metrics"].get(key) is not None for log in logs)]
    control = {log["seed"]: log for log in logs if log["role"] == "control"}
    head = [
        "model",
        "seeds",
        *shared,
        f"Δ {shared[0]}",
        "parameters",
        "latency, ms",
        "one node, ms",
        "schedule",
        "seconds",
    ]
    rows = [head, ["---"] * len(head)]
    for (role, method), group in runs.items():
        gaps = [
            log["metrics"][shared[0]] - control[log["seed"]]["metrics"][shared[0]]
            for log in group
            if log["seed"] in control
        ]
        rows.append(
            [
                role if role != "distilled" else f"{role}, {method}",
                str(len(group)),
                *(spread([log["metrics"][key] for log in group]) for key in shared),
                spread(gaps, "+.2f") if role == "distilled" else "",
                f"{group[0]['params']:,}",
                spread([latency(log) for log in group], ".1f"),
                spread([log["latency_ms"]["one_node"] for log in group if "one_node" in log["latency_ms"]], ".2f"),
                group[0].get("schedule", ""),
                f"{statistics.mean(log['seconds'] for log in group):.0f}",
            ]
        )
    filled = [column for column, cells in enumerate(zip(*rows[2:])) if any(cells)]
    rows = [[row[column] for column in filled] for row in rows]
    lines = [f"**{logs[0]['name']}** ({logs[0]['selection']})", "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def latency(log: Log) -> float:
    """Return the measured milliseconds of a log, whatever its protocol calls them."""
    return next(value for key, value in log["latency_ms"].items() if key not in ("threads", "protocol"))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Format mean ± sample standard deviation, the mean alone where there is one value."""
    if not values:
        return ""
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _seed(log: Log) -> int:
    return log["seed"]


if __name__ == "__main__":
    main()
