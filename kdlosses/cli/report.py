"""Tables of comparisons, from their result logs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from kdlosses.cli.logs import Log, read
from kdlosses.cli.parser import Parser

ROLES = ("reference", "teacher", "control", "distilled")


def print_tables(doc: str | None, command: str, arguments: list[str] | None) -> None:
    """Print a table for each path among the arguments: the subcommand `report` of both siblings."""
    parser = Parser(doc, command)
    parser.add_argument("paths", type=Path, nargs="+", help="folders of logs, or single files")
    args = parser.parse_args(arguments)
    print("\n\n".join(table(read(path)) for path in args.paths))


def table(logs: Sequence[Log]) -> str:
    """Format logs as Markdown: for each model mean ± sample standard deviation over its seeds, of latencies the median.

    The difference is taken seed by seed: of a student against the control; of a graph network that was taught, 'gcn,
    lingugkd', against itself untaught, 'gcn'; of a student on graphs also against `glnn`, as the mean with its 95 %
    confidence interval. A column that would be empty is left out.
    """
    models = sorted({(log["role"], log["method"]) for log in logs}, key=lambda model: (ROLES.index(model[0]), model[1]))
    several = [role for role, _ in models].count("teacher") > 1 or models[0][0] == "reference"
    named = {"reference", "distilled", *(["teacher"] if several else [])}
    runs = {
        model: sorted((log for log in logs if model == (log["role"], log["method"])), key=_seed) for model in models
    }
    students = [log for log in logs if log["role"] in ("control", "distilled")] or logs
    shared = [key for key in students[0]["metrics"] if all(log["metrics"].get(key) is not None for log in students)]
    if not shared:
        raise ValueError(f"the runs of {logs[0]['name']} have no metric in common: there is no table of them")
    control = [log for log in logs if log["role"] == "control"]
    glnn = [log for log in logs if log["side"] == "graph" and (log["role"], log["method"]) == ("distilled", "glnn")]
    paired = [key for key in dict.fromkeys((shared[0], "prod")) if key in shared]
    gained = [key for key in dict.fromkeys((shared[0], "bIoU", "BEV AP25")) if key in shared]
    head = [
        "model",
        "seeds",
        *shared,
        *(f"Δ {key}" for key in gained),
        *(f"Δ {key} to glnn [95 %]" for key in paired),
        "parameters",
        "latency, ms",
        "one node, ms",
        "schedule",
        "seconds",
    ]
    rows = [head, ["---"] * len(head)]
    for (role, method), group in runs.items():
        taught = group if role == "distilled" else []
        untaught = control if taught else runs.get(("reference", method.rpartition(", ")[0]), [])
        speeds = [log for log in group if log["latency_ms"] is not None]
        rows.append(
            [
                f"{role}, {method}" if role in named else role,
                str(len(group)),
                *(spread([value for log in group if (value := log["metrics"].get(key)) is not None]) for key in shared),
                *(spread(gaps(group, untaught, key), "+.2f") for key in gained),
                *("" if method == "glnn" else interval(gaps(taught, glnn, key)) for key in paired),
                "" if group[0]["params"] is None else f"{group[0]['params']:,}",
                _middle([latency(log) for log in speeds], ".1f"),
                _middle([log["latency_ms"]["one_node"] for log in speeds if "one_node" in log["latency_ms"]], ".2f"),
                group[0].get("schedule", ""),
                f"{statistics.mean(log['seconds'] for log in group):.0f}",
            ]
        )
    filled = [column for column, cells in enumerate(zip(*rows[2:])) if any(cells)]
    rows = [[row[column] for column in filled] for row in rows]
    lines = [f"**{logs[0]['name']}** ({logs[0]['selection']})", "", *(f"| {' | '.join(row)} |" for row in rows)]
    widths = sorted({log["boundary_width"] for log in logs if "boundary_width" in log})
    if "bIoU" in shared and widths:
        near = " or ".join(f"{width:g}" for width in widths)
        lines += ["", f"bIoU: mean IoU of the pixels within {near} of an edge of the labels."]
    return "\n".join(lines)


def worse_teachers(logs: Sequence[Log]) -> list[str]:
    """Say of each teacher that is no better than the untaught control that it is.

    >>> runs = [("teacher", 20.0), ("control", 26.0), ("control", 28.0)]
    >>> worse_teachers([{"role": role, "method": "lad", "metrics": {"mIoU": value}} for role, value in runs])
    ['teacher, lad: mIoU 20.00, the untaught control has 27.00: there is little to learn from it']
    """
    control = [log["metrics"] for log in logs if log["role"] == "control"]
    if not control:
        return []
    first = next(iter(control[0]))
    untaught = statistics.mean(each[first] for each in control)
    return [
        f"teacher, {log['method']}: {first} {log['metrics'][first]:.2f}, the untaught control has {untaught:.2f}: "
        "there is little to learn from it"
        for log in logs
        if log["role"] == "teacher" and (log["metrics"].get(first) or untaught) < untaught
    ]


def gaps(group: Sequence[Log], other: Sequence[Log], key: str) -> list[float]:
    """Return the differences in a metric between two models, for each seed that both have."""
    metrics = {log["seed"]: log["metrics"] for log in other}
    return [log["metrics"][key] - metrics[log["seed"]][key] for log in group if log["seed"] in metrics]


def latency(log: Log) -> float:
    """Return the measured milliseconds of a log, whatever its protocol calls them."""
    return next(value for key, value in log["latency_ms"].items() if key not in ("threads", "protocol"))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Format mean ± sample standard deviation, the mean alone where there is one value."""
    if not values:
        return ""
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def interval(gaps: Sequence[float]) -> str:
    """Format the mean of paired differences and its 95 % confidence interval by Student's t; nothing for one."""
    if len(gaps) < 2:
        return ""
    mean = statistics.mean(gaps)
    reach = student_t(len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return f"{mean:+.2f} [{mean - reach:.2f}, {mean + reach:.2f}]"


def student_t(freedom: int, within: float = 0.95) -> float:
    """Return the t that Student's distribution lies within, `-t` to `t`, with this probability.

    The probability is a finite sum for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4), and is
    inverted by bisection over the angle `atan(t / sqrt(freedom))`.

    >>> round(student_t(9), 4)
    2.2622
    """

    def probability(angle: float) -> float:
        cos, term, total = math.cos(angle), 1.0, 0.0
        if freedom % 2 == 0:
            for k in range(freedom // 2):
                total, term = total + term, term * cos**2 * (2 * k + 1) / (2 * k + 2)
            return math.sin(angle) * total
        for k in range(freedom // 2):
            total, term = total + term, term * cos**2 * (2 * k + 2) / (2 * k + 3)
        return (angle + math.sin(angle) * cos * total) * 2 / math.pi

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < within else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _middle(values: Sequence[float], form: str) -> str:
    """The median: other work on the machine makes some runs slow and none fast."""
    return format(statistics.median(values), form) if values else ""


def _seed(log: Log) -> int:
    return log["seed"]
