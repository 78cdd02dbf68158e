"""Distill on a graph of the size of ogbn-products, from disk: `python benchmarks/big_graph.py --share 1 --folder DIR`.

The graph is made here, in DIR, and kept: 2,449,029 nodes, 61,859,140 undirected edges drawn (each stored in both
directions; those drawn twice count once, about 1 %), 100 features, 47 classes. Nodes fall into communities of about
2,400, communities into classes of unequal size; 7 of 10 edges stay within a community, degrees fall off as a power law.
A feature is what class and community have in common plus noise. `--share 0.0625` makes a sixteenth of it.

Each method is one call of `graphkd.distill`, on memory-mapped arrays: the teacher is GraphSAGE with 3 layers of 256
units, trained on sampled neighbourhoods and applied layer by layer, over all neighbours, into a cache in shards, from
which the students learn in batches. The whole graph is distilled with `scale='auto'`, smaller ones with
`scale='sampled'`, so that the sizes can be compared. Later methods learn from the cache of the first. One node in a
hundred is labelled; accuracies are on 50,000 nodes that are neither labelled nor for validation.

`--out FOLDER` writes a log for each size, which `graphkd report` prints as tables; `--report FOLDER` prints times,
peak memory and how they grow; `--nodes 1e9` adds what a graph of that many nodes needs. Seconds are wall
clock; those of the processor, which other work on the machine does not change as much, are printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from big_report import projected, report
from torch import Tensor

import graphkd
from graphkd import Cache, Result, Split, StudentClassifier
from kdlosses.cli.logs import SCHEMA, Log, commit, peak_memory, read, reset_peak_memory, versions, write

NODES, EDGES, FEATURES, CLASSES = 2_449_029, 61_859_140, 100, 47
COMMUNITY, WITHIN, SKEW = 2_400, 0.7, 1.5
BLOCK = 1 << 16  # nodes whose features are drawn at a time
SPLIT = (0.01, 0.01)  # training and validation nodes
TEACHER = {"type": "sage", "layers": 3, "hidden": 256, "fanout": [10, 5, 5], "epochs": 8, "batch_size": 256}


@dataclass(frozen=True, eq=False)
class BigGraph:
    """A graph on disk: features, labels, and edges sorted by target, all memory-mapped.

    Attributes:
        x: features `(N, 100)`.
        y: labels `(N,)`.
        edge_index: `(2, E)`, both directions of each edge.
        crow: where the edges into each node begin `(N + 1,)`.
        train: labelled nodes.
        val: nodes to choose an epoch by.
        test: nodes to report on.
    """

    x: np.ndarray
    y: np.ndarray
    edge_index: Tensor
    crow: Tensor
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


def make(folder: Path, share: float, seed: int = 0) -> BigGraph:
    """Open the graph in `folder`; make it if it is not there.

    Raises:
        ValueError: another one is there, or it is damaged.
    """
    asked = {"share": share, "seed": seed}
    if not (folder / "graph.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        nodes, edges = round(share * NODES), round(share * EDGES)
        _features_and_labels(folder, nodes, seed)
        _edges(folder, nodes, edges, seed)
        (folder / "graph.json").write_text(json.dumps(asked))
    try:
        found = json.loads((folder / "graph.json").read_text())
    except ValueError as error:
        raise ValueError(f"{folder / 'graph.json'} is damaged: delete {folder}, and the graph is made anew") from error
    if found != asked:
        raise ValueError(f"{folder} holds the graph {found}, not {asked}; choose another --folder")
    try:
        x, y, edge_index, crow = (
            np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("x", "y", "edges", "crow")
        )
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"the graph in {folder} is damaged ({error}): delete the folder, it is made anew") from error
    order = np.random.default_rng(seed).permutation(len(y))
    one_each = np.unique(y[order], return_index=True)[1]  # a training node of each class
    order = np.concatenate([order[one_each], np.delete(order, one_each)])
    first, second = (round(sum(SPLIT[:k]) * len(y)) for k in (1, 2))
    parts = order[:first], order[first:second], order[second : second + 50_000]
    return BigGraph(x, y, torch.from_numpy(edge_index), torch.from_numpy(crow), *parts)


def _community_of(nodes: int) -> int:
    return max(CLASSES, nodes // COMMUNITY)


def _features_and_labels(folder: Path, nodes: int, seed: int) -> None:
    draw = np.random.default_rng([seed, 1])
    communities = _community_of(nodes)
    size = draw.pareto(1.5, CLASSES) + 0.2  # a few large classes and many small ones
    more = draw.choice(CLASSES, communities - CLASSES, p=size / size.sum())
    class_of = np.concatenate([np.arange(CLASSES), more])
    centre = 0.25 * draw.normal(size=(CLASSES, FEATURES))[class_of] + 0.3 * draw.normal(size=(communities, FEATURES))
    community = np.arange(nodes) % communities  # far apart on disk, as nodes of a real file are
    np.save(folder / "y.npy", class_of[community])
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (nodes, FEATURES))
    for start in range(0, nodes, BLOCK):
        block = community[start : start + BLOCK]
        x[start : start + BLOCK] = centre[block] + draw.standard_normal((len(block), FEATURES), dtype=np.float32)
    x.flush()


def _edges(folder: Path, nodes: int, edges: int, seed: int) -> None:
    """Draw edges in blocks as numbers `target N + source`, sort them, and write them without what was drawn twice."""
    draw = np.random.default_rng([seed, 2])
    communities = _community_of(nodes)
    members = nodes // communities  # the last few nodes are reached from outside of their community alone
    keys = np.empty(2 * edges, np.int64)

    def drawn(count: int) -> np.ndarray:
        """Members of a community, the first ones more often."""
        return (members * draw.random(count) ** SKEW).astype(np.int64)

    for start in range(0, edges, 1 << 20):
        count = min(1 << 20, edges - start)
        one, other = draw.integers(communities, size=(2, count))
        other = np.where(draw.random(count) < WITHIN, one, other)
        source, target = one + communities * drawn(count), other + communities * drawn(count)
        target += (source == target) * np.where(target < nodes - 1, 1, -1)  # no self-loops
        keys[2 * start : 2 * start + count] = source * nodes + target
        keys[2 * start + count : 2 * (start + count)] = target * nodes + source
    keys.sort()
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    written, total = 0, int(new.sum())
    degree = np.zeros(nodes, np.int64)
    out = np.lib.format.open_memmap(folder / "edges.npy", "w+", np.int64, (2, total))
    for start in range(0, len(keys), 1 << 22):
        block = keys[start : start + (1 << 22)][new[start : start + (1 << 22)]]
        target = block // nodes
        out[0, written : written + len(block)] = block - target * nodes
        out[1, written : written + len(block)] = target
        degree += np.bincount(target, minlength=nodes)
        written += len(block)
    out.flush()
    np.save(folder / "crow.npy", np.concatenate([[0], degree.cumsum()]))


def as_data(graph: BigGraph) -> SimpleNamespace:
    """The graph as `graphkd.distill` takes it; nothing is copied."""
    split = Split(*(torch.from_numpy(part) for part in (graph.train, graph.val, graph.test)))
    return SimpleNamespace(x=graph.x, y=graph.y, edge_index=graph.edge_index, num_classes=CLASSES, split=split)


@dataclass(frozen=True, eq=False)
class Run:
    """One call of `graphkd.distill`.

    Attributes:
        method: recipe.
        graph: what it was run on.
        result: what it returned.
        seconds: of the whole call, checks, teacher, cache, control, student and latencies.
        cpu: the same, of the processor.
        peak: MiB that the process held at most, mapped files included.
    """

    method: str
    graph: BigGraph
    result: Result
    seconds: float
    cpu: float
    peak: int

    def parts(self) -> dict[str, float]:
        """Seconds of teacher (0 if it was there) and cache, of the control's and student's steps, of the call."""
        outcomes = {role: found["tran"] for role, found in self.result.outcomes.items()}
        return {
            "teacher": outcomes["teacher"].seconds,
            "cache": outcomes["teacher"].applied,
            "control": outcomes["control"].seconds,
            "student": outcomes["student"].seconds,
            "call": self.seconds,
            "call, processor": self.cpu,
        }


def distill(
    graph: BigGraph,
    method: str,
    teacher: Any,
    epochs: int,
    folder: Path | None,
    scale: Literal["auto", "full", "sampled"],
    batch: int = 4096,
) -> Run:
    """One call of `graphkd.distill`; `folder` gets the cache of a teacher that is trained here."""
    reset_peak_memory()
    student = StudentClassifier((256,), epochs=epochs, batch_size=batch)
    start, cpu = time.perf_counter(), time.process_time()
    result = graphkd.distill(
        as_data(graph), teacher, method, student=student, setting="tran", isolated="keep", scale=scale, folder=folder
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Run(method, graph, result, seconds, cpu, peak_memory())


def measure(folder: Path, share: float, methods: Sequence[str], epochs: int, teacher: Any = None) -> list[Run]:
    """Make the graph and distill with each method; prints a line for each call."""
    folder = folder / f"share-{share:g}"
    start = time.perf_counter()
    graph = make(folder, share)
    print(f"{len(graph):,} nodes, {graph.edge_index.shape[1] // 2:,} undirected edges, in both directions", flush=True)
    print(f"  graph: {time.perf_counter() - start:.1f} s", flush=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)  # this benchmark's own, of an earlier run
    found: list[Run] = []
    for method in methods:
        given = Cache.load(folder / "cache" / "tran") if found else teacher or TEACHER
        cache = None if found else folder / "cache"
        run = distill(graph, method, given, epochs, cache, "auto" if share >= 1 else "sampled")
        accuracies = ", ".join(f"{role} {100 * told['tran']:.1f}" for role, told in run.result.metrics.items())
        seconds = ", ".join(f"{what} {value:.1f}" for what, value in run.parts().items() if value)
        print(f"  {method}: accuracy {accuracies}; seconds {seconds}; peak RSS {run.peak} MiB", flush=True)
        found.append(run)
    teacher = found[0].result.outcomes["teacher"]["tran"].model
    torch.save(teacher.state_dict(), folder / "teacher.pt")  # for latency.py
    found[0].result.student.save(folder / "student.safetensors")
    return found


def logs(runs: Sequence[Run], share: float) -> list[Log]:
    """One log for each model, as `graphkd report` reads them."""
    first = runs[0]
    common = {
        "schema": SCHEMA,
        "name": f"big graph, {len(first.graph):,} nodes, {first.graph.edge_index.shape[1] // 2:,} undirected edges",
        "side": "graph",
        "seed": 0,
        "selection": "epoch by validation accuracy; test labels are read by the evaluation alone",
        "commit": commit(),
        "versions": versions("torch", "numpy", "torch-geometric", "scikit-learn"),
        "threads": torch.get_num_threads(),
        "share": share,
        "nodes": len(first.graph),
        "edges": first.graph.edge_index.shape[1],
        "teacher": TEACHER,
    }

    def log(role: str, method: str, run: Run) -> Log:
        key = "student" if role == "distilled" else role
        outcome = run.result.outcomes[key]["tran"]
        network = outcome.model if role == "teacher" else outcome.model.network_
        found = {
            **common,
            "role": role,
            "method": method,
            "metrics": {"tran": 100 * outcome.metrics["tran"]},
            "params": sum(each.numel() for each in network.parameters()),
            "latency_ms": run.result.latency.get(key),
            "seconds": run.parts()["student" if role == "distilled" else role],
        }
        if role != "control":
            found |= {"parts": run.parts(), "peak_mib": run.peak}
        return found

    return [log("teacher", "sage", first), log("control", "supervised", first)] + [
        log("distilled", run.method, run) for run in runs
    ]


def main() -> None:
    """Distill on one size after the other, and say how time grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, nargs="+", default=[1 / 16, 1 / 4, 1.0], help="sizes, as shares of all")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/big_graph"), help="5 GB for the whole graph")
    parser.add_argument("--methods", nargs="+", default=["glnn", "ffg2m"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of the logs, one for each size")
    parser.add_argument("--report", type=Path, help="print what the logs in this folder say, and run nothing")
    parser.add_argument("--nodes", type=float, help="with --report: also say what a graph of that many nodes needs")
    parser.add_argument("--processes", type=int, default=64, help="with --nodes")
    args = parser.parse_args()
    if args.report:
        found = read(args.report)
        print(projected(found, round(args.nodes), args.processes) if args.nodes else report(found))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    found = []
    for share in args.share:
        mine = logs(measure(args.folder, share, args.methods, args.epochs), share)
        found += mine
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            write(args.out / f"share-{share:g}.json", mine)
    print(report(found))


if __name__ == "__main__":
    main()
