"""Settings: transductive, or inductive with its production and cold-start measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from graphkd.data.graph import Graph
from graphkd.data.split import PARTS, Split, as_split, mark
from graphkd.data.targets import known, only

SettingName = Literal["tran", "ind"]
UNSEEN_SHARE = 0.2
"""Share of the test nodes that are unseen in `ind`, and their weight in `prod`."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The parts of a graph that teacher and student see, and the nodes that they are evaluated on.

    Attributes:
        name: `tran`: all nodes and edges are seen (of the test nodes all but the label). `ind`: a fifth of the test
            nodes and every edge at them are hidden until the evaluation.
        whole: the whole graph.
        seen: the graph induced on the nodes that are seen; labels other than those of `train` and `val` are -1.
        observed: ids in `whole` of the nodes of `seen`, ascending.
        train: ids in `seen`.
        val: ids in `seen`.
        test: ids in `whole` of the test nodes that are seen.
        unseen: ids in `whole` of the test nodes that are not; none in `tran`.
        scoring: what selects and is reported, see `graphkd.training.scoring.measures`; None is the task's own.
    """

    name: SettingName
    whole: Graph
    seen: Graph
    observed: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    unseen: Tensor
    scoring: Any = None

    def mark(self) -> str:
        """Hash of the nodes whose labels training may use: `Split.fingerprint` of its split."""
        return mark(self.observed[self.train], self.observed[self.val])

    def without_test(self) -> Setting:
        """The same for training and selection alone: there are no test nodes, and no label but those of the two."""
        told = torch.zeros(len(self.whole), dtype=torch.bool)
        told[self.observed[self.train]] = told[self.observed[self.val]] = True
        whole = replace(self.whole, y=only(self.whole.y, told))
        return replace(self, whole=whole, test=self.test[:0], unseen=self.unseen[:0])


def make_setting(graph: Graph, split: Any, name: SettingName, seed: int, scoring: Any = None) -> Setting:
    """Make the setting `name` of a graph; `seed` draws the unseen nodes of `ind`, `scoring` selects and is reported.

    The split may have any form that `as_split` takes.

    Raises:
        ValueError: graph and split do not fit together, or a class has no training node.
    """
    if name not in ("tran", "ind"):
        raise ValueError(f"no setting is called {name!r}; known: 'tran', 'ind'")
    split = as_split(split, len(graph))
    _check_split(graph, split)
    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(seed))
    unseen = split.test[order[: int(UNSEEN_SHARE * len(order)) if name == "ind" else 0]].sort().values
    if name == "ind" and not len(unseen):
        raise ValueError(f"{len(split.test)} test nodes are too few to hide a fifth of them: the unseen set is empty")
    hidden = torch.zeros(len(graph), dtype=torch.bool)
    hidden[unseen] = True
    observed = (~hidden).nonzero().flatten()
    told = torch.zeros(len(graph), dtype=torch.bool)
    told[split.train] = told[split.val] = True
    place = torch.full((len(graph),), -1)
    place[observed] = torch.arange(len(observed))
    masked = Graph(
        *(graph.x, graph.edge_index, only(graph.y, told), graph.num_classes, graph.node_id),
        edge_weight=graph.edge_weight,
        task=graph.task,
        reads=graph.reads,
    )
    return Setting(
        name,
        graph,
        masked if name == "tran" else masked.subgraph(observed),  # in which nothing is hidden
        observed,
        place[split.train],
        place[split.val],
        split.test[~hidden[split.test]],
        unseen,
        scoring,
    )


def _check_split(graph: Graph, split: Split) -> None:
    for key in PARTS:
        ids = getattr(split, key)
        silent = ids[~known(graph.y[ids])]
        if len(silent):
            raise ValueError(f"node {int(silent[0])} of the split's {key} part has no label; leave it out of the split")
    if graph.task != "single-label":
        _check_told(graph, split)
        return
    count = torch.bincount(graph.y[split.train], minlength=graph.num_classes)
    asked = torch.bincount(graph.y[torch.cat([split.val, split.test])], minlength=graph.num_classes)
    untold = ((count == 0) & (asked > 0)).nonzero().flatten()
    if len(untold):
        label = int(untold[0])
        raise ValueError(
            f"class {label} has no training node, but {int(asked[label])} nodes to select or to test on; give "
            "it training nodes, or leave its nodes out of the split"
        )


def _check_told(graph: Graph, split: Split) -> None:
    """Raise ValueError if a label has only one value among the training nodes: there is nothing to learn."""
    told = graph.y[split.train]
    same = (told == told[0]).all(0).nonzero().flatten()
    if len(same):
        label = int(same[0])
        raise ValueError(
            f"{graph.task} target {label} is {told[0, label].item():g} for all {len(told)} training nodes; drop it, or "
            "take a larger split"
        )
