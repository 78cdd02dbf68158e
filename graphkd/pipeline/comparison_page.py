"""A comparison as one HTML page: a plot drawn as SVG, and the table; nothing is fetched."""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from kdlosses.cli.document import document
from kdlosses.cli.logs import Log
from kdlosses.cli.report import ROLES, table
from kdlosses.options import nearest

COLOURS = {"control": "#6e7781", "teacher": "#0969da", "distilled": "#1a7f37"}
_STYLE = "svg { max-width: 100%; height: auto; } text { font: 13px system-ui, sans-serif; fill: currentColor; }"


class Row(NamedTuple):
    """One model: mean and sample standard deviation of a metric over its seeds."""

    role: str
    label: str
    mean: float
    deviation: float


def summary(logs: Sequence[Log], metric: str | None) -> tuple[str, list[Row]]:
    """The metric, the first that all logs have if none is named, and a row for each model.

    Raises:
        KeyError: no such metric; names the nearest.
    """
    shared = [key for key in logs[0]["metrics"] if all(log["metrics"].get(key) is not None for log in logs)]
    if metric is not None and metric not in shared:
        raise KeyError(f"the runs have no metric {metric!r} in common; {nearest(metric, shared)}")
    chosen = metric or shared[0]
    models = list(dict.fromkeys((log["role"], log["method"]) for log in logs))
    models.sort(key=lambda model: ROLES.index(model[0]))
    rows = []
    for role, method in models:
        values = [log["metrics"][chosen] for log in logs if (log["role"], log["method"]) == (role, method)]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        label = role if role == "control" else f"{role}, {method}"
        rows.append(Row(role, label, statistics.mean(values), deviation))
    return chosen, rows


def page(logs: Sequence[Log], metric: str | None = None) -> str:
    """The page of these logs."""
    chosen, rows = summary(logs, metric)
    head, _, *lines = (line.strip("|").split("|") for line in table(logs).splitlines() if line.startswith("|"))
    cells = ["".join(f"<th>{html.escape(each.strip())}</th>" for each in head)]
    cells += ["".join(f"<td>{html.escape(each.strip())}</td>" for each in line) for line in lines]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return document(
        str(logs[0]["name"]),
        f"<p>{html.escape(chosen)}: mean and sample standard deviation over seeds.</p>{_drawing(rows, chosen)}"
        f"<div class='wide'><table>{body}</table></div><p>{html.escape(logs[0]['selection'])}.</p>",
        _STYLE,
    )


def _drawing(rows: Sequence[Row], metric: str) -> str:
    low, high = min(row.mean - row.deviation for row in rows), max(row.mean + row.deviation for row in rows)
    span = (high - low) or abs(high) or 1.0
    low, high, left, right = low - 0.05 * span, high + 0.05 * span, 260, 760

    def at(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    height, parts = 26 * len(rows) + 40, []
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(f"<line x1='{at(value):.1f}' x2='{at(value):.1f}' y1='5' y2='{height - 32}' stroke='#8884'/>")
        parts.append(f"<text x='{at(value):.1f}' y='{height - 16}' text-anchor='middle'>{value:.4g}</text>")
    for place, row in enumerate(rows):
        y, colour = 18 + 26 * place, COLOURS.get(row.role, "#888")
        parts.append(f"<text x='{left - 12}' y='{y + 4}' text-anchor='end'>{html.escape(row.label)}</text>")
        ends = f"x1='{at(row.mean - row.deviation):.1f}' x2='{at(row.mean + row.deviation):.1f}'"
        parts.append(f"<line {ends} y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2'/>")
        parts.append(
            f"<circle cx='{at(row.mean):.1f}' cy='{y}' r='4' fill='{colour}'>"
            f"<title>{row.mean:.2f} ± {row.deviation:.2f}</title></circle>"
        )
    label = html.escape(metric, quote=True)
    return f"<svg viewBox='0 0 800 {height}' width='800' role='img' aria-label='{label}'>{''.join(parts)}</svg>"
