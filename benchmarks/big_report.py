"""What the logs of `big_graph.py` say: times, peak memory, how they grow, and what a larger graph needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdlosses.cli.logs import Log


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Least-squares slope of log seconds against log size: 1 is linear growth.

    >>> round(slope([1, 4, 16], [2, 8, 32]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def report(found: Sequence[Log]) -> str:
    """Times and peak memory by size, and the slope of log seconds against log nodes.

    Each call of `graphkd.distill` is a row; slopes need at least two sizes.
    """
    rows = [["method", "nodes", "teacher, s", "cache, s", "control, s", "student, s", "call, s", "processor, s", "MiB"]]
    lines = []
    calls = [log for log in found if log["role"] == "distilled"]
    for method in dict.fromkeys(log["method"] for log in calls):
        mine = sorted((log for log in calls if log["method"] == method), key=lambda log: log["nodes"])
        for log in mine:
            times = (f"{value:.1f}" if value else "" for value in log["parts"].values())
            rows.append([method, f"{log['nodes']:,}", *times, f"{log['peak_mib']:,}"])
        for part in mine[0]["parts"] if len(mine) > 1 else ():
            seconds = [log["parts"][part] for log in mine]
            if all(seconds):
                lines.append(
                    f"{method}: slope of log seconds, {part}: {slope([log['nodes'] for log in mine], seconds):.2f}"
                )
    table = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in table), "", *lines])


def needs(nodes: int, edges: int, hidden: int = 256, features: int = 100, classes: int = 47) -> dict[str, int]:
    """Bytes on disk: of the graph, of the teacher's cache, and of the two layers' outputs that lie there meanwhile.

    >>> needs(1, 0)["cache"]  # 47 logits, the id, whether it was seen
    197
    """
    return {
        "features": 4 * features * nodes,
        "labels and offsets": 16 * nodes,
        "edges": 16 * edges,
        "cache": (4 * classes + 8 + 1) * nodes,
        "two layers' outputs": 2 * 4 * hidden * nodes,
    }


def projected(found: Sequence[Log], nodes: int, processes: int) -> str:
    """What a larger graph with as many edges a node needs, in proportion to the largest of the logs."""
    calls = [log for log in found if log["role"] == "distilled" and log["parts"]["teacher"]]
    largest = max(calls, key=lambda log: log["nodes"])
    factor = nodes / largest["nodes"]
    lines = [
        f"{nodes:,} nodes, {round(factor * largest['edges']):,} directed edges, in proportion to {largest['name']}:"
    ]
    for what, count in needs(nodes, round(factor * largest["edges"])).items():
        lines.append(f"- {what}: {count / 1e9:,.1f} GB")
    rows = 4 << 16
    lines.append(f"- shards of the cache: {-(-nodes // rows):,} of {needs(rows, 0)['cache'] / 1e6:.1f} MB")
    for part in ("teacher", "cache", "student"):
        hours = factor * largest["parts"][part] / 3600
        lines.append(
            f"- {part}: {hours:,.1f} hours of one core, {hours / processes:,.2f} in {processes} processes at best"
        )
    return "\n".join(lines)
