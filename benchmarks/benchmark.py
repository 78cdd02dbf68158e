"""What distillation costs, as ratios in one run: `python benchmarks/benchmark.py [imports] [dense] [auto] [graph]
[live] [seams] [text] [losses]`.

Each row is printed when it is measured, and how much time is left. Two variants are timed in turn, round after round,
and the ratio is the median over rounds of the ratio within a round: whatever else the machine does meets both. Memory
is the peak of what is allocated during a step, plus what models, gradients and optimiser keep. See
`benchmark_losses.py` for what the losses are compared with, `benchmark_dense.py` for what the methods are,
`benchmark_auto.py` for what a training is.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler, which tells memory, chats

import torch
from measure import Left, Ratio, peak_bytes

from kdlosses.cli.logs import ROOT, commit, versions, write


def imports(rounds: int = 7) -> Iterator[Ratio]:
    """Seconds that `import package` takes beyond `import torch`, over the bound of 0.2 s."""
    for package in ("kdlosses", "graphkd", "densekd"):
        code = f"import torch, time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
        times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds)]
        seconds = statistics.median(times)
        yield Ratio(f"import {package} / 0.2 s", seconds / 0.2, 1.0, f"{1e3 * seconds:.0f} ms beyond torch")


def dense(only: Sequence[str] = ()) -> Iterator[Ratio]:
    """A distillation step of each named method against a teacher's forward and a plain step, time and memory."""
    from benchmark_dense import measure

    return measure(only)


def auto(only: Sequence[str] = ()) -> Iterator[Ratio]:
    """What weights that are measured, and the looks of the diagnosis, add to a training, over the promised 2 %."""
    from benchmark_auto import measure

    return measure(only)


def graph(rounds: int = 5, share: float = 1.0, folder: Path = ROOT / "work_dirs" / "big_graph") -> Iterator[Ratio]:
    """On Physics an epoch of `ffg2m` against one of `glnn`, how its memory grows with the edges, and latencies; these,
    and how the time of distillation grows, on the graph of `big_graph.py`, of which `share` is made in `folder`.
    """
    yield from _physics(rounds)
    yield from _big(share, folder)


def _physics(rounds: int) -> Iterator[Ratio]:
    from graphkd import StudentClassifier, cpf_split, load
    from graphkd.networks.mlp import MLP
    from graphkd.teachers.sage import sage
    from graphkd.training.latency import student_latencies, teacher_latencies

    physics = load("physics")
    labelled = cpf_split(physics.y, seed=0).train
    teacher = torch.randn(len(physics), physics.num_classes)

    def fit(method: str, edge_index: torch.Tensor, epochs: int) -> Any:
        student = StudentClassifier(hidden=(256,), dropout=0.5, epochs=epochs, method=method, random_state=0)
        return student.fit(physics.x, physics.y, teacher=teacher, edge_index=edge_index, labelled=labelled)

    seconds: dict[str, list[float]] = {"ffg2m": [], "glnn": []}
    for _ in range(rounds):
        for method, times in seconds.items():
            times.append(statistics.median(fit(method, physics.edge_index, 4).history_.seconds[1:]))
    ffg2m, glnn = seconds.values()
    ratio = statistics.median(a / b for a, b in zip(ffg2m, glnn))
    yield Ratio("epoch, ffg2m / glnn on Physics", ratio, 1.5, f"{statistics.median(ffg2m):.3f} s")

    edges = physics.edge_index
    more = torch.cat([edges, edges.flip(0), edges.roll(1, 1), edges.roll(2, 1)], dim=1)
    growth = peak_bytes(lambda: fit("ffg2m", more, 1)) - peak_bytes(lambda: fit("ffg2m", edges, 1))
    longer = (more.numel() - edges.numel()) * more.element_size()
    detail = f"{growth >> 20} MiB on {longer >> 20} MiB of edges"
    yield Ratio("memory, ffg2m: growth / edges", growth / longer, 1.0, detail)
    yield from _latencies(
        "Physics",
        teacher_latencies(sage(physics.x.shape[1], physics.num_classes).eval(), physics.x, physics.edge_index),
        student_latencies(MLP(physics.x.shape[1], (256,), physics.num_classes).eval(), physics.x),
    )


def _big(share: float, folder: Path) -> Iterator[Ratio]:
    from big_graph import measure
    from big_report import slope

    methods = ("glnn", "ffg2m")  # the first trains the teacher, too
    runs, left = [], Left(21)  # of a graph of four times as many nodes each call takes four times as long
    for size in (1, 4, 16):
        runs += measure(folder, share * size / 16, methods, 2)
        left.tell(size)
    for method in methods:
        mine = [run for run in runs if run.method == method]
        seconds = [run.parts()["student"] for run in mine]
        times = ", ".join(f"{each:.1f} s" for each in seconds)
        steepness = slope([len(run.graph) for run in mine], seconds)
        yield Ratio(f"slope of log time, {method}", steepness, 1.1, f"{times}; {mine[-1].peak} MiB")
    whole = runs[-len(methods)]
    latency = whole.result.latency
    yield from _latencies(f"{len(whole.graph):,} nodes", latency["teacher"], latency["student"])


def _latencies(where: str, teacher: dict[str, float], student: dict[str, float]) -> list[Ratio]:
    """Student against teacher by the protocol of `graphkd.training.latency`."""
    pairs = {
        "whole graph": ("all_nodes", "all_nodes"),
        "new node": ("one_node", "one_node"),
        "new node, sampled": ("one_node", "one_node_sampled"),
        "256 nodes, sampled": ("batch", "batch"),
    }
    return [
        Ratio(f"{name}, {where}", student[one] / teacher[other], 1.0, f"{student[one]:.3g} ms, {teacher[other]:.3g} ms")
        for name, (one, other) in pairs.items()
    ]


def live() -> Iterable[Ratio]:
    """Steps with live teachers against the same steps written out in torch."""
    from benchmark_live import measure

    return measure()


def seams() -> Iterable[Ratio]:
    """Heads, the truth as a source, policies, masked images and rounds against what stands inside of them."""
    from benchmark_seams import measure

    return measure()


def text(model: str) -> Iterable[Ratio]:
    """A language model against its students on a graph of texts, and against its own bare forward passes."""
    from benchmark_text import measure

    return measure(model)


def losses(only: Sequence[str] = (), compiled: bool = True) -> list[Ratio]:
    """Each registered loss against its formula typed straight down, and what compiling it gains."""
    from benchmark_losses import measure

    return measure(only, compiled=compiled)


BENCHMARKS: dict[str, Callable[..., Iterable[Ratio]]] = {
    "imports": imports,
    "dense": dense,
    "auto": auto,
    "graph": graph,
    "live": live,
    "seams": seams,
    "text": text,
    "losses": losses,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which: {', '.join(BENCHMARKS)}; all if none is given, text if there is a --model",
    )
    parser.add_argument("--only", default="", help="of losses and methods those with these names: kl,dkd")
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="leave out what compiling the losses gains; so does a call without names",
    )
    parser.add_argument("--model", help="folder of the language model that text asks")
    parser.add_argument("--share", type=float, default=1.0, help="of the 2.4 million nodes of the big graph")
    parser.add_argument("--folder", type=Path, default=ROOT / "work_dirs" / "big_graph", help="holds it: 5 GB")
    parser.add_argument("--out", type=Path, help="write a JSON log here, say results/benchmark/losses.json")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    if "text" in arguments.names and not arguments.model:
        parser.error("text needs a language model: --model FOLDER")
    only = [key for key in arguments.only.split(",") if key]
    names = arguments.names or (
        ["losses"] if only else [name for name in BENCHMARKS if name != "text" or arguments.model]
    )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}", flush=True)
    found: list[Ratio] = []
    compiled = not arguments.no_compile and "losses" in names and bool(arguments.names or only)
    for name in names:
        if name == "losses":
            found += losses(only, compiled)
        elif name in ("dense", "auto"):
            found += _shown(BENCHMARKS[name](only))
        elif name == "graph":
            found += _shown(graph(share=arguments.share, folder=arguments.folder))
        elif name == "text":
            found += _shown(text(arguments.model))
        else:
            found += _shown(BENCHMARKS[name]())
    if arguments.out:
        ratios = [ratio._asdict() | {"bound": ratio.bound if math.isfinite(ratio.bound) else None} for ratio in found]
        log = {"versions": versions("torch", "numpy"), "commit": commit(), "ratios": ratios}
        write(arguments.out, log | {"machine": platform.machine(), "threads": torch.get_num_threads()})
    return int(any(ratio.missed for ratio in found))


def _shown(ratios: Iterable[Ratio]) -> list[Ratio]:
    """Print each row when it is measured, and return all."""
    found = []
    for ratio in ratios:
        verdict = "ABOVE" if ratio.missed else "within"
        print(f"{ratio.name:<36} {ratio.value:5.2f}  {verdict} {ratio.bound:.2f}   ({ratio.detail})", flush=True)
        found.append(ratio)
    return found


if __name__ == "__main__":
    sys.exit(main())
