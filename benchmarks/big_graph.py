"""Distill on a graph of the size of ogbn-products, from disk: `python benchmarks/big_graph.py --share 1 --folder DIR`.

The graph is made here, in DIR, and kept: 2,449,029 nodes, 61,859,140 undirected edges drawn (each stored in both
directions; those drawn twice count once, about 1 %), 100 features, 47 classes. Nodes fall into communities of about
2,400, communities into classes of unequal size; 7 of 10 edges stay within a community, degrees fall off as a power law.
A feature is what class and community have in common plus noise. `--share 0.0625` makes a sixteenth of it.

The teacher is GraphSAGE, trained on sampled neighbourhoods and then applied layer by layer to blocks of nodes, over all
neighbours; its logits are written in shards. The students read features, logits and edges memory-mapped, a batch at a
time. One node in a hundred is labelled; accuracies are on 50,000 nodes that are neither labelled nor for validation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd import Cache, StudentClassifier
from graphkd.sparse.edges import neighbourhood
from graphkd.sparse.rows import csr, rows
from graphkd.teachers.gnn import GNN
from graphkd.teachers.sage import sage
from kdlosses.cli.logs import peak_memory, reset_peak_memory
from kdlosses.whole import whole

NODES, EDGES, FEATURES, CLASSES = 2_449_029, 61_859_140, 100, 47
COMMUNITY, WITHIN, SKEW = 2_400, 0.7, 1.5
SHARDS, BLOCK = 8, 1 << 16
SPLIT = (0.01, 0.01)  # training and validation nodes


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


def train_teacher(graph: BigGraph, steps: int = 150, batch: int = 512, fanout: int = 5, seed: int = 0) -> GNN:
    """GraphSAGE of two layers, trained on sampled neighbourhoods of labelled nodes."""
    torch.manual_seed(seed)
    network = sage(FEATURES, CLASSES)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=5e-4)
    draw = torch.Generator().manual_seed(seed)
    train, y = torch.from_numpy(graph.train), torch.from_numpy(graph.y)
    for _ in range(steps):
        asked = train[torch.randperm(len(train), generator=draw)[:batch]]
        nodes, edges = neighbourhood(graph.crow, graph.edge_index[0], asked, 2, fanout, draw)
        loss = F.cross_entropy(network(rows(graph.x, nodes), edges)[: len(asked)], y[asked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.inference_mode()
def layerwise(network: GNN, graph: BigGraph) -> Iterator[Tensor]:
    """Logits of GraphSAGE over all neighbours, for one block of nodes after the other.

    Layer by layer, so that a node is computed once and not for each of those that it is a neighbour of.
    """
    x: Tensor | None = None
    *inner, _ = network.layers
    for place, layer in enumerate(network.layers):
        h = torch.cat([layer.linear(block) for block in _blocks(graph, x)])  # type: ignore[operator]
        found = (_mean(graph, h, start) for start in range(0, len(graph), BLOCK))
        if place == len(inner):
            yield from found
        else:
            x = torch.cat([network.activation(network.norms[place](block)) for block in found])


def _blocks(graph: BigGraph, x: Tensor | None) -> Iterator[Tensor]:
    for start in range(0, len(graph), BLOCK):
        part = slice(start, start + BLOCK)
        yield torch.from_numpy(graph.x[part]) if x is None else x[part]


def _mean(graph: BigGraph, h: Tensor, start: int) -> Tensor:
    """Mean over the neighbours of a block of nodes and themselves."""
    crow = graph.crow[start : start + BLOCK + 1]
    source = graph.edge_index[0, crow[0] : crow[-1]]
    near = csr(crow - crow[0], source, torch.ones(len(source)), len(h))
    return (near @ h + h[start : start + BLOCK]) / (crow.diff() + 1)[:, None]


def teach(graph: BigGraph, folder: Path) -> tuple[Cache, GNN]:
    """Train the teacher and write its logits in shards; if they are there, read them."""
    network = sage(FEATURES, CLASSES)
    weights = _weights(folder / "teacher.pt")
    if weights is None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        network = train_teacher(graph)
        each = -(-len(graph) // (SHARDS * BLOCK)) * BLOCK
        blocks, start = [], 0
        for block in layerwise(network, graph):
            blocks.append(block)
            rest = len(graph) - start - sum(map(len, blocks))
            if len(blocks) * BLOCK == each or not rest:
                logits = torch.cat(blocks).numpy()
                ids = np.arange(start, start + len(logits))
                shard = Cache(
                    logits, ids, np.ones(len(ids), bool), _name(graph), settings={"teacher": {"type": "sage"}}
                )
                shard.save_shard(folder / "cache", start, len(graph))
                blocks, start = [], start + len(logits)
        weights = network.state_dict()
        with whole(folder / "teacher.pt") as draft:
            torch.save(weights, draft)
    network.load_state_dict(weights)
    return Cache.load(folder / "cache", _name(graph)), network.eval()


def _weights(path: Path) -> dict[str, Tensor] | None:
    """What an earlier call left; None if there is nothing, or it is damaged: then the teacher is trained anew."""
    try:
        return torch.load(path, weights_only=True) if path.exists() else None
    except Exception:  # a damaged file can fail in any of PyTorch's ways
        return None


def _name(graph: BigGraph) -> str:
    return f"big-{len(graph)}-{graph.edge_index.shape[1]}"


@dataclass(frozen=True)
class Run:
    """One distillation.

    Attributes:
        method: recipe, or `control`, which learns from the labels alone.
        graph: what it was run on.
        teacher: whose logits were learnt.
        student: the trained student.
        epoch: seconds, median.
        fit: seconds of all epochs with what a recipe prepares once, validation counted.
        peak: MiB that the process held at most, mapped files included.
    """

    method: str
    graph: BigGraph
    teacher: GNN
    student: StudentClassifier
    epoch: float
    fit: float
    peak: int


def distill(graph: BigGraph, cache: Cache, teacher: GNN, method: str, epochs: int, batch: int = 4096) -> Run:
    """Train one student from disk."""
    reset_peak_memory()
    recipe = "supervised" if method == "control" else method  # told the number of classes, and no more, by the cache
    student = StudentClassifier((256,), 0.0, recipe, epochs=epochs, batch_size=batch, random_state=0)
    start = time.perf_counter()
    student.fit(
        graph.x,
        graph.y,
        teacher=cache,
        edge_index=graph.edge_index,
        labelled=graph.train,
        validation=(graph.x[graph.val], graph.y[graph.val]),
    )
    seconds = time.perf_counter() - start
    epoch = statistics.median(student.history_.seconds)
    return Run(method, graph, teacher, student, epoch, seconds, peak_memory())


@torch.inference_mode()
def student_logits(network: nn.Module, graph: BigGraph) -> Iterator[Tensor]:
    """Logits of a student, for one block of nodes after the other."""
    for block in _blocks(graph, None):
        yield network(block)


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Least-squares slope of log seconds against log size: 1 is linear growth.

    >>> round(slope([1, 4, 16], [2, 8, 32]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(folder: Path, share: float, methods: Sequence[str], epochs: int) -> list[Run]:
    """Make the graph, teach, and distill with each method; prints a line for each step."""
    folder = folder / f"share-{share:g}"

    def told(what: str, start: float) -> None:
        print(f"  {what}: {time.perf_counter() - start:.1f} s, peak RSS {peak_memory()} MiB", flush=True)

    reset_peak_memory()
    start = time.perf_counter()
    graph = make(folder, share)
    print(f"{len(graph):,} nodes, {graph.edge_index.shape[1] // 2:,} undirected edges, in both directions", flush=True)
    told("graph", start)
    reset_peak_memory()
    start = time.perf_counter()
    cache, teacher = teach(graph, folder)
    told("teacher", start)
    test, truth = torch.from_numpy(graph.test), graph.y[graph.test]
    print(f"  teacher: accuracy {100 * np.mean(rows(cache.logits, test).argmax(1).numpy() == truth):.1f}", flush=True)
    found = []
    for method in methods:
        run = distill(graph, cache, teacher, method, epochs)
        print(
            f"  {method}: accuracy {100 * run.student.score(graph.x[graph.test], truth):.1f}, {run.epoch:.1f} s an "
            f"epoch, {run.fit:.1f} s for {epochs} epochs and preparation, peak RSS {run.peak} MiB",
            flush=True,
        )
        found.append(run)
    return found


def main() -> None:
    """Distill on one size after the other, and say how time grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, nargs="+", default=[1 / 16, 1 / 4, 1.0], help="sizes, as shares of all")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/big_graph"), help="5 GB for the whole graph")
    parser.add_argument("--methods", nargs="+", default=["control", "glnn", "ffg2m"])
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    runs = [run for share in args.share for run in measure(args.folder, share, args.methods, args.epochs)]
    for method in args.methods if len(args.share) > 1 else ():
        mine = [run for run in runs if run.method == method]
        sizes = [len(run.graph) for run in mine]
        for what in ("epoch", "fit"):
            print(f"{method}: slope of log seconds, {what}: {slope(sizes, [getattr(run, what) for run in mine]):.2f}")


if __name__ == "__main__":
    main()
