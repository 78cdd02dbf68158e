"""Make a trained graph network forget a part of what it has learned from: `unlearn` and its steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from graphkd.data import Graph
from graphkd.links.network import LinkGNN
from graphkd.pipeline.arguments import as_json, check_spec, checked_seed
from graphkd.spec import resolve
from graphkd.teachers.call import kind_of, readable
from graphkd.training.loop import Schedule
from graphkd.unlearning.asked import Asked, forget_links, forget_nodes, links_of, nodes_of, only_one
from graphkd.unlearning.deletion import Bill, Deletion
from graphkd.unlearning.figures import figures, figures_before
from graphkd.unlearning.layers import encoder_of, uncached
from graphkd.unlearning.links import Links
from graphkd.unlearning.membership import shadow_attack
from graphkd.unlearning.methods import UNLEARNERS
from graphkd.unlearning.nodes import Nodes
from graphkd.unlearning.task import Task
from kdlosses.options import check_known

MethodSpec = str | Mapping[str, Any] | Callable[..., nn.Module]


@dataclass(frozen=True, eq=False)
class Unlearned:
    """What `unlearn` returns.

    Attributes:
        model: the unlearned one; the one given is as it was.
        graph: what is left of the graph: ask the model over its edges, or where there is a split of links over those
            of `split.train`. Nodes keep their numbers; those that were deleted have no edge, no feature and no label.
        split: what is left of the split, if there was one.
        report: what was removed, how, at what cost, and the `figures` before and after; it can be written as JSON.

    The next deletion starts from here: `unlearn(found.model, found.graph, split=found.split, ...)`.
    """

    model: nn.Module
    graph: Graph
    split: Any
    report: dict[str, Any]

    def __repr__(self) -> str:
        after = ", ".join(f"{name} {value:.3f}" for name, value in self.report["after"].items())
        return f"<Unlearned by {self.report['method']}: {after}>"


def unlearn(
    model: nn.Module,
    data: Any,
    *,
    edges: Any = None,
    nodes: Any = None,
    classes: Any = None,
    method: MethodSpec = "d2dgn",
    task: Literal["links", "nodes"] | None = None,
    split: Any = None,
    trained: Mapping[str, Any] | None = None,
    audit: bool = False,
    seed: int = 0,
) -> Unlearned:
    """Make a trained graph network forget edges, nodes or all nodes of some classes, without training it anew.

    A model of links returns a row for each node; a pair scores as the product of its two rows, of a `LinkGNN` as its
    predictor says. To forget nodes it forgets all of their edges. A model of nodes returns class logits.

    Args:
        model: `(x, edge_index) -> (N, d)`, trained on the data; it is not changed.
        data: a `Graph`, a PyG `Data`, or anything with `x`, `edge_index` and, unless `edges` or `nodes` of links are
            to be forgotten, `y`. Edges count in both directions.
        edges: to be forgotten, `(2, n)` or a list of pairs; in one direction or in both.
        nodes: ids `(n,)`.
        classes: numbers of classes `(n,)`, of which all nodes are forgotten.
        method: of `graphkd.unlearning.UNLEARNERS` by name, as `dict(type=name, **options)`, or a function
            `(deletion, **options) -> Module`.
        task: what the model tells, `links` or `nodes`; if not given, `links` of a `LinkGNN` and for `edges`.
        split: of links a `LinkSplit`, see `split_links`, if the model has not learned from all edges; of nodes as in
            `distill`. It is to be the one by which the model was trained: what it has not learned from chooses the
            epoch and is tested on.
        trained: how the model was trained, `lr`, `weight_decay`, `epochs`, `patience` and `batch_size` of `Schedule`:
            methods learn at its `lr` or a share of it, `retrain` and the audit train so.
        audit: train a shadow model for an attack on membership, and a new model on what is left, and report how far
            the unlearned model is from both; takes longer than two trainings.
        seed: of whatever is drawn.

    Raises:
        ValueError: nothing, or more than one thing, is to be forgotten; an id is unknown or named twice, a class has no
            nodes, nothing would be left, or the model does not fit the data. Raised before anything is trained.
        TypeError: an argument is nothing of the kind, or the method has no such option; likewise.
        KeyError: unknown method; names the nearest.

    >>> from graphkd.data import digits
    >>> from graphkd.unlearning import fit
    >>> from graphkd.teachers.gcn import gcn
    >>> graph, model = digits(), gcn(64, 16, hidden=32, dropout=0.0)
    >>> fit(model, graph, task="links", trained=dict(epochs=20))
    >>> found = unlearn(model, graph, edges=graph.edge_index[:, :50], method="utu")
    >>> found.report["method"], len(found.report["removed"]["edges"]), found.graph.edge_index.shape[1]
    ('utu', 50, 12518)
    """
    seed = checked_seed(seed)
    run = checked_method(method)
    deletion, asked = prepared(
        model, data, edges=edges, nodes=nodes, classes=classes, task=task, split=split, trained=trained, seed=seed
    )
    attack = shadow_attack(deletion) if audit else None
    found, bill = carried_out(deletion, run)
    retrained = carried_out(deletion, UNLEARNERS["retrain"])[0] if audit else None
    report = {
        "method": as_json(method),
        "seed": seed,
        "removed": asked.removed(),
        "seconds": bill.seconds,
        "MFLOP": bill.flops / 1e6,
        "before": figures_before(deletion),
        "after": figures(deletion, found, attack, retrained),
        **({} if attack is None else {"attack AUC": attack.auc(deletion)}),
    }
    return Unlearned(found, asked.graph, asked.split, report)


def fit(
    model: nn.Module,
    data: Any,
    *,
    task: Literal["links", "nodes"],
    split: Any = None,
    trained: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Train a model in place, as `retrain` does; for those who have none, see `unlearn` for the arguments."""
    check_model(model)
    schedule = schedule_of(task, trained)
    graph, learned = learned_from(model, data, task, split, checked_seed(seed))
    check_answers(model, graph, learned)
    learned.fit(model, schedule, seed)


def prepared(
    model: nn.Module, data: Any, *, task: str | None, split: Any, trained: Any, seed: int, **wanted: Any
) -> tuple[Deletion, Asked]:
    """Check all that `unlearn` is told but the method; `wanted` are its `edges`, `nodes` and `classes`."""
    check_model(model)
    kind = only_one(wanted)
    if task is None:
        task = "links" if kind == "edges" or isinstance(model, LinkGNN) else "nodes"
    if task == "nodes" and kind == "edges":
        raise ValueError("edges are forgotten by a model of links: leave task out, or name nodes or classes")
    schedule = schedule_of(task, trained)
    model = uncached(copy.deepcopy(model))
    graph, before = learned_from(model, data, task, split, seed, labels=kind == "classes")
    if isinstance(before, Links):
        asked = forget_links(graph, before, split, **wanted)
    else:
        asked = forget_nodes(graph, before, wanted["nodes"], wanted["classes"])
    check_answers(model, graph, asked.after)
    return Deletion(model, asked.before, asked.after, asked.deleted, schedule, seed), asked


def check_answers(model: nn.Module, graph: Graph, task: Task) -> None:
    """Raise ValueError unless the model can be trained, and gives finite rows for all nodes of the task."""
    name = f"the model {type(model).__name__}"
    if (dtype := kind_of(model)[1]).itemsize < 4:
        raise ValueError(f"{name} is in {dtype}, in which small steps are lost: pass model.float()")
    try:
        with torch.no_grad():
            rows = task.run(model.eval())
    except (IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name} cannot be run on the graph: {error}") from error
    if isinstance(task, Nodes) and rows.shape != (len(graph), graph.num_classes):
        raise ValueError(
            f"the model gives {tuple(rows.shape)}; of nodes it is to give logits of {len(graph)} nodes by "
            f"{graph.num_classes} classes"
        )
    if rows.ndim != 2 or len(rows) != len(graph):
        raise ValueError(
            f"the model gives {tuple(rows.shape)}; of links it is to give a row for each of {len(graph)} nodes"
        )
    if not rows.isfinite().all():
        raise ValueError(f"{name} gives NaN or infinite numbers: its training has failed")


def check_model(model: Any) -> None:
    """Raise TypeError unless this is a network."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a graph network, a torch.nn.Module; got a {type(model).__name__}")


def learned_from(
    model: nn.Module, data: Any, task: str, split: Any, seed: int, labels: bool = False
) -> tuple[Graph, Links | Nodes]:
    """The graph, with features as the model takes them, and what the model has learned from."""
    if task not in ("links", "nodes"):
        raise ValueError(f"task is 'links' or 'nodes', got {task!r}")
    graph, before = links_of(data, split, labels) if task == "links" else nodes_of(data, split, seed)
    x = readable(encoder_of(model), graph).x
    return replace(graph, x=x), replace(before, x=x)


def checked_method(method: Any) -> Callable[[Deletion], nn.Module]:
    """A way to unlearn with its options bound; raise for one that is unknown, and for options it has not."""
    check_spec("method", method)
    function, options = resolve("method", method, UNLEARNERS)
    return lambda deletion: function(deletion, **options)


def schedule_of(task: str, trained: Mapping[str, Any] | None) -> Schedule:
    """The schedule by which a model was trained, by default 200 epochs."""
    if not isinstance(trained, Mapping | None):
        raise TypeError(f"trained is a dict of how the model was trained, got {trained!r}")
    check_known("trained", trained or {}, [each.name for each in fields(Schedule)])
    decay = 0.0 if task == "links" else 5e-4
    return Schedule(**{"epochs": 200, "weight_decay": decay, **(trained or {})})


def carried_out(deletion: Deletion, run: Callable[[Deletion], nn.Module]) -> tuple[nn.Module, Bill]:
    """Unlearn by one method: the model, and what it cost. The deletion may be used again."""
    bill = Bill()
    start = time.perf_counter()
    found = run(replace(deletion, bill=bill))
    bill.seconds = time.perf_counter() - start
    if not isinstance(found, nn.Module):
        raise TypeError(f"a way to unlearn returns the unlearned network, this one a {type(found).__name__}")
    return found.requires_grad_(True).eval(), bill
