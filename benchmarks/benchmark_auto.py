"""What weights that are measured add to a training: the part `auto` of `benchmark.py`.

Of a training of STEPS steps the first 50 measure the weights, and one in 25 is looked at by the diagnosis; both take
the gradients of task and losses once more. Three students are trained in turn, step by step: one with the weights of
its method and no diagnosis, one whose weights are measured in each step, one with a diagnosis in each. The extra time
of the last two, as CPU time of one thread and in the shares that a training has, over the time of a training is the
cost; the row shows it over the 2 % that are promised.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from benchmark_dense import Pair, steps
from measure import Ratio

from kdlosses.auto_weight import STEPS as MEASURED
from kdlosses.diagnosis import EVERY

STEPS, PROMISE = 1000, 0.02
LOOKED = (STEPS - MEASURED) // EVERY
METHODS = ("kl", "cwd", "bpkd", "skd", "ifvd", "mgd", "pkd", "dist")
"""Losses on logits, on the feature before them, and on the backbone; one to three entries."""
ON_NODES = ("kl", "mse")


def measure(only: Sequence[str] = (), rounds: int = 15, side: int = 256) -> Iterator[Ratio]:
    """Measure METHODS, or those in `only`, on images of `side`, and the recipe `terms` on a graph."""
    from densekd.methods import METHODS as KNOWN
    from kdlosses import nearest

    for name in only:
        if name not in KNOWN:
            raise SystemExit(f"there is no method {name!r} to measure; {nearest(name, KNOWN)}")
    yield from steps(list(only or METHODS), _trainings, rounds, side)
    if not only:
        yield _on_nodes(rounds)


def cost(times: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Share that a training takes longer, and its quartiles over the rounds.

    Args:
        times: for each round seconds of a step that is left alone, of one that measures, of one that is looked at.

    >>> cost([(1.0, 1.2, 1.1), (2.0, 2.4, 2.2), (1.0, 1.2, 1.1)])  # 50 steps of 1000 and 38 of 1000
    (0.0138, 0.0138, 0.0138)
    """
    found = [
        (MEASURED * (measured / alone - 1) + LOOKED * (looked / alone - 1)) / STEPS for alone, measured, looked in times
    ]
    low, middle, high = statistics.quantiles(found, n=4)
    return round(middle, 6), round(low, 6), round(high, 6)


def _trainings(method: str, pair: Pair, rounds: int) -> list[Ratio]:
    from mmengine.optim import OptimWrapper
    from mmengine.registry import MODELS

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def stepper(every: int, balance: Any) -> Callable[[], object]:
        torch.manual_seed(0)
        spec = dict(student=pair.student, teacher=pair.teacher, checkpoint="random", method=method, balance=balance)
        model = MODELS.build(dict(type="densekd.Distiller", **spec)).to(device).train()
        model._diagnosis.every = every
        optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9))
        return lambda: model.train_step(pair.batch, optimiser)

    never, always = STEPS * rounds, dict(type="auto", steps=STEPS * rounds)
    variants = (stepper(never, None), stepper(never, always), stepper(1, None))
    return [_row(f"{method}, {pair.name}", _in_turn(variants, rounds))]


def _on_nodes(rounds: int) -> Ratio:
    """Epochs of the recipe `terms` on Cora with numbers as weights, and with weights that are measured in each."""
    from graphkd import StudentClassifier, cpf_split, load

    cora = load("cora")
    labelled = cpf_split(cora.y, seed=0).train
    teacher = torch.randn(len(cora), cora.num_classes, generator=torch.Generator().manual_seed(0))

    def epochs(weight: Any) -> float:
        distills = [dict(loss=loss, weight=weight) for loss in ON_NODES]
        method = dict(type="terms", lam=0.5, distills=distills)
        student = StudentClassifier(hidden=(256,), dropout=0.5, epochs=rounds, method=method, random_state=0)
        student.fit(cora.x, cora.y, teacher=teacher, edge_index=cora.edge_index, labelled=labelled)
        return statistics.median(student.history_.seconds[1:])

    measured = dict(type="auto", steps=STEPS * rounds)
    pairs = [(epochs(0.1), epochs(measured)) for _ in range(5)]
    return _row("terms on Cora", [(alone, more, alone) for alone, more in pairs])  # graphs have no diagnosis


def _in_turn(variants: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float, float]]:
    """Seconds of a step of each variant, round after round; who goes first changes."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for step in (*variants, *variants):
        step()
    found = []
    for turn in range(rounds):
        times: dict[int, float] = {}
        for place in range(len(variants)):
            which = (turn + place) % len(variants)
            start = clock()
            variants[which]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[which] = clock() - start
        found.append((times[0], times[1], times[2]))
    return found


def _row(name: str, times: Sequence[tuple[float, float, float]]) -> Ratio:
    share, low, high = cost(times)
    measured, looked = (statistics.median(each[i] / each[0] for each in times) for i in (1, 2))
    detail = (
        f"{share:.2%}, quartiles {low:.2%} and {high:.2%}, of {STEPS:,} steps; a measured step {measured:.2f}, one "
        f"looked at {looked:.2f}"
    )
    return Ratio(f"auto / {PROMISE:.0%}, {name}", share / PROMISE, 1.0, detail)
