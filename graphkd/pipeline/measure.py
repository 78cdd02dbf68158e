"""Measure teachers and students: accuracies in a setting, and latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.data import Graph, Setting
from graphkd.data.setting import UNSEEN_SHARE
from graphkd.pipeline.arguments import (
    last_step,
)
from graphkd.teachers.call import call, call_on, kind_of, outputs, readable
from graphkd.teachers.ensemble import Ensemble
from graphkd.training.latency import latency, student_latencies, teacher_latencies
from graphkd.training.loop import Score
from graphkd.training.scoring import Measure, measures
from graphkd.training.task import TASKS
from graphkd.training.units import Units
from kdlosses.taps import at_rest


def network_of(student: Any) -> nn.Module:
    """The network of a student, or of the student at the end of a `Pipeline`."""
    return last_step(student).network_


def measure_latency(network: nn.Module, graph: Graph, needs_edges: bool, x: Tensor | None = None) -> dict[str, float]:
    """Latency in milliseconds for all nodes (`all_nodes`) and for new ones, see `graphkd.training.latency`.

    `x` is what it sees in place of the graph's features; what it takes to make that is not measured.
    """
    x = graph.x if x is None else x
    if not needs_edges:
        return student_latencies(network, x)
    if graph.reads is not None:
        with at_rest(network):
            return {"all_nodes": latency(lambda: call_on(network, graph))}
    x = readable(network, replace(graph, x=x)).x
    with at_rest(network):
        if graph.edge_weight is not None:
            return {"all_nodes": latency(lambda: call(network, x, graph.edge_index, graph.edge_weight))}
        if kind_of(network) != (torch.device("cpu"), torch.float32):
            network = Ensemble([network])  # which hands it what it takes
        return teacher_latencies(network, x, graph.edge_index)


def readable_setting(network: nn.Module, setting: Setting) -> Setting:
    """The setting with its features as the network takes them."""
    if setting.whole.reads is not None:
        return setting
    return replace(setting, seen=readable(network, setting.seen), whole=readable(network, setting.whole))


def measures_of(setting: Setting) -> tuple[Measure, ...]:
    """What selects and is reported in a setting."""
    return measures(setting.scoring, setting.whole.task, setting.whole.num_classes)


def check_scores(setting: Setting) -> None:
    """Raise ValueError if a measure has no value on a part on which it will be asked, such as one without a class."""
    width, draw = setting.whole.num_classes, torch.Generator().manual_seed(0)
    parts = [setting.observed[setting.val], setting.test, *([setting.unseen] if len(setting.unseen) else [])]
    for place, measure in enumerate(measures_of(setting)):
        for nodes in parts if measure.scorer is not None else ():
            if len(nodes) and (not place or nodes is not parts[0]):  # the first alone chooses an epoch
                measure(torch.randn(len(nodes), width, generator=draw), setting.whole.y[nodes])


def evaluation(
    network: nn.Module, setting: Setting, units: Units | None = None
) -> Callable[[], tuple[Score, float | None]]:
    """A function that scores a network, as it is when called, on the validation and on the watched test nodes, if any.

    `units` are those in which its answers are scored, where it has learned standardised numbers.
    """
    seen, labels = setting.seen, setting.seen.y
    watched = setting.test if setting.name == "tran" else torch.searchsorted(setting.observed, setting.test)
    truth, measure = setting.whole.y[setting.test], measures_of(setting)[0]

    def evaluate() -> tuple[Score, float | None]:
        with torch.inference_mode():
            logits = call_on(network, seen)
        logits = logits if units is None else units.own(logits)
        told = measure.both(logits[watched], truth)[0] if len(watched) else None
        return measure.both(logits[setting.val], labels[setting.val]), told

    return evaluate


@torch.inference_mode()
def setting_outputs(network: nn.Module, setting: Setting) -> tuple[list[Tensor], Tensor]:
    """Hidden layers, if the network returns them, and logits, for the whole graph; NaN where unseen."""
    seen = setting.seen
    found = outputs(network, seen)
    if found[-1].shape != (len(seen), seen.num_classes):
        raise ValueError(
            f"the teacher gives {tuple(found[-1].shape)}; expected {len(seen)} nodes by {seen.num_classes} classes"
        )
    *hidden, logits = [spread(out, setting) for out in found]
    return hidden, logits


def spread(seen: Tensor, setting: Setting) -> Tensor:
    """Expand rows of the seen nodes to rows of the whole graph, NaN where unseen."""
    full = seen.new_full((len(setting.whole), *seen.shape[1:]), torch.nan)
    return full.index_copy_(0, setting.observed, seen)


@torch.inference_mode()
def teacher_metrics(
    networks: Sequence[nn.Module], views: Sequence[Setting], setting: Setting, logits: Tensor
) -> dict[str, float]:
    """Scores of the mean prediction of networks, each on its own view; `logits` are theirs on the seen nodes."""
    if setting.name == "tran" or not len(setting.test):
        return metrics_of(setting, logits)
    if setting.whole.reads is not None:
        with at_rest(networks[0]):
            return metrics_of(setting, logits, call_on(networks[0], views[0].whole))
    found: list[list[Tensor]] = [[], []]
    for network, view in zip(networks, views):
        whole, seen = view.whole, view.seen
        x = readable(network, whole).x
        known = (view.observed[seen.edge_index], seen.edge_weight)
        with at_rest(network):
            for answers, edges in zip(found, ((whole.edge_index, whole.edge_weight), known)):
                answers.append(call(network, x, *edges, whole.num_classes))
    several = len(networks) > 1
    linked, alone = (TASKS[setting.whole.task].together(torch.stack(each, 1)) if several else each[0] for each in found)
    return metrics_of(setting, logits, linked, alone)


def metrics_of(
    setting: Setting, observed: Tensor, linked: Tensor | None = None, alone: Tensor | None = None
) -> dict[str, float]:
    """Scores from the outputs for all nodes: with the seen edges, with all edges, and without any.

    Those of further scorers than the first have their name behind that of the metric. Without test nodes there are
    none, see `Setting.without_test`.
    """
    found: dict[str, float] = {}
    if not len(setting.test):
        return found
    for place, measure in enumerate(measures_of(setting)):
        own = _metrics(setting, measure, observed, linked, alone)
        found |= {f"{key} {measure.name}" if place else key: value for key, value in own.items()}
    return found


def _metrics(
    setting: Setting, measure: Measure, observed: Tensor, linked: Tensor | None, alone: Tensor | None
) -> dict[str, float]:
    def scored(outputs: Tensor, nodes: Tensor) -> float:
        return measure(outputs[nodes], setting.whole.y[nodes])

    seen = scored(observed, setting.test)
    if setting.name == "tran":
        return {"tran": seen}
    if linked is None:
        return {"observed": seen}
    unseen = scored(linked, setting.unseen)
    prod = (1 - UNSEEN_SHARE) * seen + UNSEEN_SHARE * unseen
    cold = {} if alone is None else {"cold": scored(alone, setting.unseen)}
    return {"observed": seen, "ind": unseen, "prod": prod, **cold}
