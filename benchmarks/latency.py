"""One new node: a student against graph networks, on the graph of `big_graph.py`, from memory-mapped files.

    python benchmarks/latency.py --share 1 --folder DIR --out results/benchmark/latency.json

A server holds the network in memory; features, edges (sorted by target) and where those into a node begin lie in files,
memory-mapped. It is asked about one node after the other, drawn at random from all nodes, each anew. What counts, by
the wall clock, for the graph network: finding the neighbours of the node, as many hops away as it has layers, all of
them or a fixed number at most per hop, drawn anew; reading their features; the forward pass, each layer for those nodes
alone that a later one reads, and with the cheaper order of mean and product. For the student: reading the features of
the node, and the forward pass. Files are read once before, so that they lie in the page cache as far as memory goes,
and each network answers some nodes before the clock runs. Beside the wall clock stands the time of the processor: other
work on the machine stretches long answers by the clock and hardly changes those. All networks are asked about the same
nodes, in float32, in one process.

The graph networks are GraphSAGE of 2 and 3 layers with 256 units, as GLNN (Zhang et al., 2022) has them on ogbn-
products; its fanouts there are 5, 10 and 15. The students are the MLP of 256 units that `big_graph.py` distills, and
one of 3 layers, 8 times as wide as the graph network. Parameters are random: they do not change the time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from big_graph import CLASSES, FEATURES, BigGraph, make
from torch import Tensor

from graphkd.networks.mlp import MLP
from graphkd.sparse.neighbours import Fanout, near
from graphkd.sparse.rows import rows
from graphkd.teachers.layerwise import trimmed
from graphkd.teachers.sage import sage
from kdlosses.cli.logs import commit, versions, write

TEACHERS: list[tuple[int, Fanout]] = [(3, None), (3, [15, 10, 5]), (2, None), (2, [15, 10])]
STUDENTS = [(256,), (2048, 2048)]
WARMUP, SECONDS = 5, 60
Row = dict[str, Any]


def measured(answer: Callable[[Tensor], Tensor], nodes: np.ndarray, seconds: float) -> Row:
    """Median and 95th percentile of milliseconds an answer, over `nodes` or as many of them as fit into `seconds`."""
    found: list[tuple[float, float]] = []
    began = time.perf_counter()
    with torch.inference_mode():
        for place, node in enumerate(nodes):
            asked = torch.from_numpy(nodes[place : place + 1])
            start, cpu = time.perf_counter(), time.thread_time()
            told = answer(asked)
            cpu, end = time.thread_time() - cpu, time.perf_counter()
            assert told.shape == (1, CLASSES), node
            if place >= WARMUP:
                found.append((1e3 * (end - start), 1e3 * cpu))
                if end - began > seconds and len(found) >= 20:
                    break
    wall, cpus = np.array(found).T
    return {
        "median_ms": float(np.median(wall)),
        "p95_ms": float(np.quantile(wall, 0.95)),
        "processor_ms": float(np.median(cpus)),
        "answers": len(found),
    }


def measure(graph: BigGraph, answers: int, seconds: float = SECONDS) -> list[Row]:
    """A row for each graph network, with whole and with sampled neighbourhoods, and for each student."""
    for array in (graph.x, graph.edge_index.numpy()):
        for start in range(0, array.shape[-2], 1 << 16):  # into the page cache
            array[..., start : start + (1 << 16), :].sum()
    crow, source = graph.crow, graph.edge_index[0]
    asked = np.random.default_rng(0).choice(len(graph), WARMUP + answers, replace=False)
    draw, found = torch.Generator().manual_seed(0), []
    for hidden in STUDENTS:
        student = MLP(FEATURES, hidden, CLASSES).eval()
        row = measured(lambda nodes, student=student: student(rows(graph.x, nodes)), asked, seconds)  # type: ignore[misc]
        name = f"MLP, {len(hidden) + 1} layers, {hidden[0]} units"
        found.append({"role": "student", "network": name, "neighbours": "none", "nodes_read": 1, **row})
        print(_line(found[-1]), flush=True)
    for layers, fanout in TEACHERS:
        teacher = sage(FEATURES, CLASSES, layers=layers, hidden=256).eval()
        read: list[int] = []

        def answer(nodes: Tensor, teacher: Any = teacher, layers: int = layers, fanout: Fanout = fanout) -> Tensor:
            around = near(crow, source, nodes, layers, fanout, draw)
            read.append(len(around.nodes))  # noqa: B023
            return trimmed(teacher, rows(graph.x, around.nodes), around)

        row = measured(answer, asked, seconds)
        name = f"GraphSAGE, {layers} layers, 256 units"
        near_by = "all" if fanout is None else f"sampled, {', '.join(map(str, fanout))}"  # type: ignore[arg-type]
        found.append(
            {
                "role": "teacher",
                "network": name,
                "neighbours": near_by,
                "nodes_read": int(np.median(read[WARMUP:])),
                **row,
            }
        )
        print(_line(found[-1]), flush=True)
    return found


def _line(row: Row) -> str:
    times = f"{row['median_ms']:.3f} ms, p95 {row['p95_ms']:.3f} ms, processor {row['processor_ms']:.3f} ms"
    return f"  {row['network']}, neighbours {row['neighbours']}: {times}"


def report(log: Row) -> str:
    """A table of the rows of a log, each against each student by medians: of the wall clock, and of the processor."""
    students = [row for row in log["rows"] if row["role"] == "student"]
    head = ["network", "neighbours", "nodes read", "median, ms", "p95, ms", "processor, ms", "answers"]
    lines = [[*head, *(f"times the {row['network']} (processor)" for row in students)]]
    lines.append(["---"] * len(lines[0]))
    for row in log["rows"]:
        cells = [row["network"], row["neighbours"], f"{row['nodes_read']:,}"]
        cells += [f"{row[key]:.3f}" for key in ("median_ms", "p95_ms", "processor_ms")] + [str(row["answers"])]
        for each in students:
            wall, cpu = (row[key] / each[key] for key in ("median_ms", "processor_ms"))
            cells.append(f"{wall:,.1f} ({cpu:,.1f})")
        lines.append(cells)
    title = f"{log['nodes']:,} nodes, {log['edges']:,} edges; {log['threads']} thread"
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write a log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the 2.4 million nodes")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/big_graph"), help="5 GB for the whole graph")
    parser.add_argument("--answers", type=int, default=2000, help="at most, of each network")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at most, of each network")
    parser.add_argument("--out", type=Path, help="the log")
    parser.add_argument("--report", type=Path, help="print the table of this log, and run nothing")
    args = parser.parse_args(arguments)
    if args.report:
        print(report(json.loads(args.report.read_text())))
        return
    torch.set_num_threads(1)
    graph = make(args.folder / f"share-{args.share:g}", args.share)
    log: Row = {
        "protocol": " ".join((__doc__ or "").split()),
        "commit": commit(),
        "versions": versions("torch", "numpy"),
        "threads": torch.get_num_threads(),
        "share": args.share,
        "nodes": len(graph),
        "edges": graph.edge_index.shape[1],
        "rows": measure(graph, min(args.answers, len(graph) - WARMUP), args.seconds),
    }
    if args.out:
        write(args.out, log)
    print(report(log))


if __name__ == "__main__":
    main()
