"""Result logs of runs on graphs: one for each model, and what models are called in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from graphkd.data import Graph
from graphkd.pipeline.arguments import last_step
from graphkd.pipeline.measure import measure_latency, network_of
from graphkd.pipeline.outcome import Outcome
from graphkd.training.latency import PROTOCOL
from graphkd.training.scoring import Measure, measures
from kdlosses.cli.logs import SCHEMA, Log, commit, peak_memory, versions

SELECTION = "epoch by validation {}, ties by validation {}; test labels are read by the evaluation alone"


def labels(methods: list[Any]) -> list[str]:
    """Name methods by their type and by what they are put around; with options where that would not tell them apart.

    >>> labels([dict(type="glnn"), dict(type="ffg2m", lam=0.2), dict(type="ffg2m", lam=0.5)])
    ['glnn', 'ffg2m(lam=0.2)', 'ffg2m(lam=0.5)']
    >>> labels([dict(type="terms", distills=[dict(loss=dict(type="until", loss="kl"))])])
    ['terms(until(kl))']
    >>> labels([dict(type="terms", distills=[dict(loss="kl"), dict(loss="ofa", student="hidden", head="branch")])])
    ['terms(kl, ofa+branch)']
    """
    short = [_label(method) for method in methods]
    return [name if short.count(name) == 1 else _label(method, True) for name, method in zip(short, methods)]


def in_file_name(label: str) -> str:
    """A label as a part of the name of a file.

    >>> in_file_name("my/nets.py:mine")
    'my.nets.py.mine'
    """
    return label.replace(":", ".").replace("/", ".")


def _label(spec: Any, full: bool = False) -> str:
    if not isinstance(spec, dict):
        return str(spec)
    inside = [
        "+".join(_label(entry[key], full) for key in ("loss", "head") if entry.get(key))
        for entry in spec.get("distills", ())
    ]
    inside += [_label(spec[key], full) for key in ("method", "loss") if key in spec]
    rest = {key: value for key, value in spec.items() if key not in ("type", "distills", "method", "loss")}
    inside += [f"{key}={value}" for key, value in rest.items() if full]
    return spec["type"] + (f"({', '.join(dict.fromkeys(inside))})" if inside else "")


def make_log(
    graph: Graph,
    config: dict[str, Any],
    name: str,
    seed: int,
    role: str,
    method: str,
    outcomes: dict[str, Outcome],
    sampled: Callable[[Outcome], dict[str, float] | None] | None = None,
) -> Log:
    """The log of one model; `sampled` measures milliseconds in place of `measure_latency`, of cells of samples."""
    metrics: dict[str, float | None] = {}
    first_measure, *others = measures(config.get("scoring"), graph.task, graph.num_classes)
    by_name = {each.name: each for each in others}

    def logged(value: float | None, measure: Measure = first_measure) -> float | None:
        return per_cent(value) if measure.share else value

    for setting, outcome in outcomes.items():
        metrics |= {
            key: logged(value, by_name.get(key.partition(" ")[2], first_measure))
            for key, value in outcome.metrics.items()
        }
        if setting == "tran":
            metrics["oracle_test_best"] = logged(outcome.oracle_test_best)
    first = next(iter(outcomes.values()))
    if first.cache is None:
        network, epochs = network_of(first.model), last_step(first.model).epochs
    else:  # of a teacher trained elsewhere there may be no network, and whatever its cache holds
        network, told = first.model, listed(first.cache.settings.get("teacher"))
        epochs = max((each.get("epochs", 0) for each in told if isinstance(each, dict)), default=0)
    of_samples = sampled is not None and first.cache is not None
    latency: dict[str, Any] | None = None
    if sampled is not None:
        found = sampled(first)
        latency = None if found is None else {**found, "protocol": PROTOCOL}
    elif network is not None:
        found = measure_latency(network, graph, needs_edges=role in ("teacher", "reference"), x=first.x)
        latency = {**found, "protocol": PROTOCOL}
    return log_of(
        "graph",
        outcomes,
        network,
        latency,
        name=name,
        role=role,
        method=method,
        seed=seed,
        config=config,
        metrics=metrics,
        selection=SELECTION.format(
            first_measure.name, "cross-entropy" if graph.task == "single-label" else "loss on the targets"
        ),
        schedule=f"at most {epochs} epochs{', sampled' if of_samples else ''}" if epochs else "",
        **({} if sampled is None else {"scale": "sampled"}),
        settings={
            setting: {
                "val": logged(outcome.val),
                "oracle_test_best": logged(outcome.oracle_test_best),
                "seconds": outcome.seconds,
            }
            for setting, outcome in outcomes.items()
        },
    )


def log_of(
    side: str, outcomes: Mapping[str, Any], network: nn.Module | None, latency: Mapping[str, Any] | None, **told: Any
) -> Log:
    """A log of one model, with what all logs of `graphkd` hold: size, milliseconds, seconds, versions, commit.

    Args:
        side: `graph` or `links`.
        outcomes: by setting, each with its `seconds`.
        network: the model's, None where it is not known.
        latency: milliseconds of its answers, and the `protocol` of their measurement.
        told: name, role, metrics and the other entries.
    """
    return {
        "schema": SCHEMA,
        "side": side,
        **told,
        "params": None if network is None else sum(parameter.numel() for parameter in network.parameters()),
        "latency_ms": None if latency is None else {**latency, "threads": torch.get_num_threads()},
        "seconds": sum(outcome.seconds for outcome in outcomes.values()),
        "peak_memory_mb": peak_memory(),
        "versions": versions("torch", "torch-geometric", "scikit-learn", "numpy"),
        "commit": commit(),
    }


def teacher_labels(specs: list[Any]) -> list[str]:
    """Name teachers by their types; with the options of the methods that teach them where they are alike without."""
    short = [_teacher_label(spec) for spec in specs]
    return [name if short.count(name) == 1 else _teacher_label(spec, True) for name, spec in zip(short, specs)]


def _teacher_label(spec: Any, full: bool = False) -> str:
    """Name a teacher by its type, the kind of its layers or its reach, what it reads and who teaches it.

    >>> _teacher_label(dict(type="hopwise", conv="gat", source="cache", method="lingugkd"))
    'hopwise(gat), lingugkd'
    >>> _teacher_label(dict(type="sgc", hops=2, source="cache", inputs=0))
    'sgc(2) on hidden 0'
    >>> _teacher_label(dict(type="gcn", source="cache", inputs=dict(top=3)))
    'gcn on top 3'
    """
    if "cache" in spec:
        return "cache"
    name = spec["type"].rpartition(":")[2]
    kind = spec.get("conv", spec.get("hops"))
    return (
        (name if kind is None else f"{name}({kind})")
        + (f" on {_read(spec['inputs'])}" if "inputs" in spec else "")
        + (f", {_label(spec['method'], full)}" if "method" in spec else "")
    )


def _read(inputs: Any) -> str:
    return f"top {inputs['top']}" if isinstance(inputs, dict) else f"hidden {inputs}"


def listed(teacher: Any) -> list[Any]:
    return teacher if isinstance(teacher, list) else [teacher]


def per_cent(share: float | None) -> float | None:
    """A share as a log keeps it."""
    return None if share is None else 100 * share
