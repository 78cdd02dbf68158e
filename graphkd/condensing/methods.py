"""Ways to condense a set of graphs by name, and `condense`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphkd.condensing.baselines import random, whole
from graphkd.condensing.condensed import Condensed
from graphkd.condensing.mirage import mirage
from graphkd.data import Graph, Split, as_graph
from graphkd.data.reads import GraphSet
from graphkd.pipeline.arguments import SplitSpec, as_json, checked_seed, chosen_split, name_of
from graphkd.spec import resolve

CONDENSERS: dict[str, Callable[..., Condensed]] = {each.__name__: each for each in (mirage, random, whole)}
"""Ways to condense by name: `condenser(graphs, y, classes, seed, *, options) -> Condensed`."""


def condense(
    data: Any, method: str | Mapping[str, Any] = "mirage", *, split: SplitSpec | None = None, seed: int = 0
) -> Condensed:
    """Condense the training part of a set of graphs with classes to a small set that networks are trained on.

    Args:
        data: a list of PyG `Data`, a dataset of these, or a set of graphs of `graphkd.load`, as of `distill`.
        method: a name of `CONDENSERS`, or `dict(type=name, **options)`: `mirage`, frequent sets of computation trees;
            `random`, graphs drawn at random up to so many `bytes`; `whole`, all graphs.
        split: as of `distill`. Graphs outside of the training part are not read.
        seed: of the split, and of what is drawn.

    Raises:
        ValueError: the data are no set of graphs with classes, a class has no training graph, or an option is out of
            range, see `graphkd.condensing.mirage.mirage`.
        TypeError: the method has no such option, or needs one.
        KeyError: unknown method; names the nearest.

    >>> from types import SimpleNamespace
    >>> ring = [[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]]
    >>> graphs = [SimpleNamespace(x=torch.full((3, 1), float(k % 2)), edge_index=ring, y=k % 2) for k in range(20)]
    >>> condense(graphs, dict(type="mirage", hops=1))
    Condensed(2 sets of 1-hop trees in place of 12 graphs, 28 bytes)
    """
    graph, seed = set_of_graphs(data), checked_seed(seed)
    condenser, options = resolve("condenser", method, CONDENSERS)
    for each in inspect.signature(condenser).parameters.values():
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty and each.name not in options:
            raise TypeError(f"condenser {name_of(condenser)!r} needs the option {each.name!r}")
    parts = chosen_split(graph, split, seed)
    graphs, y = training_part(graph, parts)
    made = condenser(graphs, y, graph.num_classes, seed, **options)
    told = {"type": name_of(condenser), **as_json(options)}
    return replace(made, settings={"method": told, "seed": seed, "split": parts.fingerprint()})


def set_of_graphs(data: Any) -> Graph:
    """The data as a `Graph` whose rows are graphs; raise ValueError for anything else."""
    graph = as_graph(data)
    if not isinstance(graph.reads, GraphSet) or graph.task != "single-label":
        what = "one graph" if graph.reads is None else graph.reads.what
        raise ValueError(
            "what is condensed is a set of graphs with classes: a list of Data, or what graphkd.load('mutag') reads; "
            f"got {what} with {graph.task} targets"
        )
    return graph


def training_part(graph: Graph, split: Split) -> tuple[GraphSet, Tensor]:
    """The training graphs and their classes; raise ValueError where a class has none."""
    assert isinstance(graph.reads, GraphSet)
    y = graph.y[split.train]
    for label, size in enumerate(torch.bincount(y, minlength=graph.num_classes).tolist()):
        if not size:
            raise ValueError(f"class {label} of {graph.num_classes} has no graph in the training part of the split")
    return graph.reads.take(split.train), y
