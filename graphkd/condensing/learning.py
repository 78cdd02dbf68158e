"""Train a network on a condensed set of graphs: `train_condensed`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.condensing.condensed import Condensed
from graphkd.condensing.methods import set_of_graphs
from graphkd.data import Graph
from graphkd.data.reads import GraphSet
from graphkd.pipeline.arguments import SplitSpec, checked_seed, chosen_split, name_of
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.spec import whole
from graphkd.teachers import TEACHERS
from graphkd.teachers.rows import built_for
from graphkd.training.loop import Evaluation, train
from graphkd.training.scoring import Measure, measures
from kdlosses.options import nearest

NETWORKS = ("gcn", "gat", "gin", "sage")
"""Those of `graphkd.teachers` whose layers hear of neighbours alone."""
_BATCH = 64


@dataclass
class TrainedOn:
    """A network that was trained on a condensed set.

    Attributes:
        model: `(x, edge_index, batch) -> (G, C)`, in evaluation mode.
        val: by the name of each scorer, on the validation graphs; empty without data.
        test: likewise, on the test graphs.
        oracle_test_best: the best first score of any epoch on the test graphs: what selecting on them would have told.
        seconds: wall-clock time of the training steps.
    """

    model: nn.Module
    val: dict[str, float]
    test: dict[str, float]
    oracle_test_best: float | None
    seconds: float


def train_condensed(
    condensed: Condensed,
    student: str | Mapping[str, Any] | Callable[..., nn.Module] = "gin",
    data: Any = None,
    *,
    split: SplitSpec | None = None,
    seed: int = 0,
    steps: int = 10,
    scoring: str | Sequence[str] = "accuracy",
) -> TrainedOn:
    """Train a network on a condensed set; the graphs that it was made of are not read.

    Each step draws rows by `Condensed.weight`, with replacement, calls the network on their graph, pools their roots
    and takes the cross-entropy to their classes.

    Args:
        condensed: the set.
        student: `gcn`, `gat`, `gin` or `sage` of `graphkd.teachers`, or `dict(type=name, **options)` with options of
            the builder, `pool` (`mean` if not given, which does not depend on how many roots there are, `sum` or
            `max`) and of `graphkd.training.loop.Schedule`; 64 rows a step, and as many layers as the trees have hops,
            if not given. Or a function `(in_features, classes)` that makes a module `(x, edge_index, batch, roots=None)
            -> (G, C)`, which pools the nodes `roots`, if any, by their `batch`, and has at most so many layers.
        data: the whole set of graphs, of which the validation graphs choose the epoch, and the test graphs are scored.
            Without it the last epoch is kept.
        split: that with which the set was condensed, as of `condense`; there is a warning of another one.
        seed: of the split, of initial parameters, dropout and what is drawn.
        steps: in an epoch.
        scoring: names of scikit-learn's scorers, the first of which selects.

    Raises:
        ValueError: a number is out of range, the student has more layers than the trees hops, or features of another
            width, or a split is given without data.
        TypeError: the student has no such option, or what is given is no condensed set.
        KeyError: unknown student or scorer; names the nearest.
    """
    if not isinstance(condensed, Condensed):
        raise TypeError(f"a set is what condense or Condensed.load returns, got {type(condensed).__name__}")
    if data is None and split is not None:
        raise ValueError("split says which graphs of data are scored, and there are none: give data, or leave it out")
    seed, steps = checked_seed(seed), whole("steps", steps, 1)
    build, schedule = _parsed(student, condensed.hops)
    size = whole("batch_size", schedule.batch_size or _BATCH, 2)
    graph = None if data is None else set_of_graphs(data)
    kinds = measures(scoring, "single-label", condensed.num_classes)
    scored = {} if graph is None else _scored(condensed, graph, split, seed)
    generator, weight = torch.Generator().manual_seed(seed), condensed.weight
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(condensed)

        def loss(draws: Tensor | slice) -> Tensor:
            rows = torch.multinomial(weight, size, replacement=True, generator=generator)
            drawn = condensed.take(rows)
            logits = network(drawn.x, drawn.edge_index, batch=drawn.batch, roots=drawn.roots)
            return F.cross_entropy(logits, condensed.y[rows])

        def evaluate() -> Evaluation:
            val, test = (_answers(network, scored[part][0]) for part in ("val", "test"))
            return kinds[0].both(val, scored["val"][1]), kinds[0](test, scored["test"][1])

        history = train(
            network,
            loss,
            steps * size,
            schedule=replace(schedule, batch_size=size),
            evaluate=evaluate if scored else None,
            generator=torch.Generator().manual_seed(seed),
        )
    network.eval()
    told = {part: _told(kinds, _answers(network, graphs), y) for part, (graphs, y) in scored.items()}
    return TrainedOn(network, told.get("val", {}), told.get("test", {}), history.oracle, sum(history.seconds))


def check_student(student: Any, hops: int | None) -> None:
    """Raise what `train_condensed` raises for its student."""
    _parsed(student, hops)


def _parsed(student: Any, hops: int | None) -> tuple[Callable[[Condensed], nn.Module], Any]:
    """A function that builds the network, and its schedule."""
    named = student.get("type") if isinstance(student, Mapping) else student
    if isinstance(named, str) and ":" not in named and named not in TEACHERS:
        raise KeyError(f"no student of a condensed set is called {named!r}; {nearest(named, NETWORKS)}")
    builder, options, schedule, *more = parse_teacher(student)
    if any(more):
        raise ValueError("a student of a condensed set has options of its network and of its schedule alone")
    name, ours = name_of(builder), builder in TEACHERS.values()
    if ours:
        if name not in NETWORKS:
            raise ValueError(
                f"{name!r} is no student of a condensed set, whose layers hear of neighbours alone: {NETWORKS}"
            )
        options = {"pool": "mean", **({} if hops is None else {"layers": hops}), **options}
        if hops is not None and options["layers"] > hops:
            raise ValueError(
                f"the student {name!r} has {options['layers']} layers, and the trees have {hops} hops: condense with "
                f"hops={options['layers']}, or take fewer layers"
            )

    def build(condensed: Condensed) -> nn.Module:
        drawn = condensed.take(torch.zeros(1, dtype=torch.long))
        reads = GraphSet(drawn.x, drawn.edge_index, drawn.batch, 1)
        return built_for(reads, builder, condensed.num_classes, options, name)

    return build, schedule


def _scored(condensed: Condensed, graph: Graph, split: Any, seed: int) -> dict[str, tuple[GraphSet, Tensor]]:
    """Validation and test graphs, and their classes."""
    assert isinstance(graph.reads, GraphSet)
    width = graph.reads.x.shape[1]
    if (width, graph.num_classes) != (condensed.features.shape[1], condensed.num_classes):
        raise ValueError(
            f"the graphs have {width} features and {graph.num_classes} classes, the condensed set "
            f"{condensed.features.shape[1]} and {condensed.num_classes}: it was made of others"
        )
    parts = chosen_split(graph, split, seed)
    if condensed.settings.get("split") not in (None, parts.fingerprint()):
        warnings.warn(
            "the set was condensed with another split: it may hold test graphs. Pass the same split and seed",
            stacklevel=3,
        )
    return {part: (graph.reads.take(ids), graph.y[ids]) for part, ids in (("val", parts.val), ("test", parts.test))}


@torch.no_grad()
def _answers(network: nn.Module, graphs: GraphSet) -> Tensor:
    """Logits `(G, C)` of whole graphs."""
    return network(graphs.x, graphs.edge_index, batch=graphs.batch)


def _told(kinds: Sequence[Measure], logits: Tensor, y: Tensor) -> dict[str, float]:
    return {each.name: each(logits, y) for each in kinds}
