"""Checks of a graph, its teachers and a method before anything is trained."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

import kdlosses
from graphkd.data import Graph, Setting, one_way
from graphkd.pipeline.arguments import (
    built,
    check_spec,
    name_of,
)
from graphkd.pipeline.measure import check_scores, readable_setting, setting_outputs
from graphkd.pipeline.outcome import MethodSpec, Outcome, TeacherSpec
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.recipes import EDGE_READERS, check_method, inputs_of, nested
from graphkd.recipes.registry import check_task
from graphkd.teachers.call import uses_weights
from graphkd.training.cache import Cache
from kdlosses.taps import at_rest


def check_connected(graph: Graph, isolated: str) -> None:
    if not isinstance(isolated, str) or isolated not in ("raise", "keep"):
        raise ValueError(f"isolated is 'raise' or 'keep', not {isolated!r}")
    if graph.reads is not None:
        return
    if not graph.edge_index.shape[1]:
        raise ValueError("the graph has no edges, so a graph teacher cannot help; fit a StudentClassifier")
    alone = (torch.bincount(graph.edge_index[1], minlength=len(graph)) == 0).nonzero().flatten()
    if len(alone) and isolated == "raise":
        raise ValueError(
            f"{len(alone)} of {len(graph)} nodes have no edge, the first is node {int(alone[0])}: keep the largest "
            "component with graphkd.data.prepare(data), or pass isolated='keep'"
        )


def check_teachers(setting: Setting, teachers: Sequence[TeacherSpec], as_given: Setting | None) -> None:
    """Check the teachers before one is trained, and whether they and their students can be scored."""
    check_scores(setting)
    weighted = setting.whole.edge_weight is not None
    for each in teachers:
        _check_task(setting, each, len(teachers))
        if isinstance(each, Cache):
            check_shown(setting, each)
            check_classes(setting, each)
        elif isinstance(each, nn.Module):
            _check_weights(each, weighted)
            if len(teachers) > 1:
                with at_rest(each):
                    setting_outputs(each, readable_setting(each, as_given or setting))
        else:
            builder, options, *_, taught, _ = parse_teacher(each)
            if taught:
                check_shown(setting, taught["source"])
            if weighted and "method" in taught:
                raise ValueError(_unused(f"a teacher taught by {taught['method']!r}", "one that is trained itself"))
            if weighted or len(teachers) > 1:
                with torch.random.fork_rng(devices=[]):
                    network = built(builder, setting.seen.x.shape[1], setting.seen.num_classes, options)
                    _check_weights(network, weighted, name_of(builder))


def _check_task(setting: Setting, teacher: TeacherSpec, count: int) -> None:
    """Raise ValueError if a teacher is of a kind that there is only for classes of nodes of a plain graph."""
    whole = setting.whole
    if isinstance(teacher, Mapping) and "soft" in teacher and whole.task != "regression":
        raise ValueError(f"a teacher with 'soft' is for numbers, the targets are {whole.task}: leave it out")
    if whole.task == "single-label" and whole.reads is None:
        return
    what = f"{whole.task} targets" if whole.reads is None else whole.reads.what
    if count > 1 and whole.reads is not None:
        raise ValueError(f"several teachers are for nodes of a plain graph, not for {what}; pass one")
    if isinstance(teacher, Mapping):
        for key in ("tune", "method", "source", "inputs", "known", "task"):
            if key in teacher:
                raise ValueError(f"a teacher with {key!r} is for classes of nodes of a plain graph, not for {what}")


def _check_weights(network: nn.Module, weighted: bool, name: str | None = None) -> None:
    if weighted and not uses_weights(network):
        able = "gcn, sage, appnp, sgc, or a module whose forward has the argument edge_weight"
        raise ValueError(_unused(f"the teacher {name or type(network).__name__!r}", able))


def check_classes(setting: Setting, cache: Cache) -> None:
    """Raise ValueError unless each teacher has the graph's classes, tasks of its own, or no logits at all."""
    for columns, _ in cache.parts or ((cache.logits.shape[1], 0),):
        if columns not in (0, setting.whole.num_classes) and not cache.own_tasks:
            raise ValueError(f"the cache has {columns} classes, the graph {setting.whole.num_classes}")


def check_shown(setting: Setting, cache: Cache) -> None:
    """Raise ValueError unless the cache is of this graph and of the nodes that this setting shows."""
    cache.check(setting.whole.fingerprint())
    if not np.array_equal(cache.node_id, setting.whole.node_id.numpy()):
        raise ValueError(
            "the cache has other node ids than the graph, or has them in another order: bring its arrays into the "
            "order of graph.node_id"
        )
    mask = torch.from_numpy(cache.observed.copy())
    if not torch.equal(mask.nonzero().flatten(), setting.observed):
        raise ValueError(
            f"the cache observed {int(mask.sum())} nodes, the setting {setting.name!r} shows {len(setting.observed)} "
            "(or others): it was written for another setting or seed"
        )


def check_method_for(graph: Graph, method: MethodSpec) -> None:
    """Raise an error unless a method is known, has these options, and can teach what is predicted on this graph."""
    check_spec("method", method)
    check_method(method)
    check_task(method, graph.task, graph.reads is None)
    inputs_of(method)
    check_edge_weights(graph, method)


def check_edge_weights(graph: Graph, method: MethodSpec) -> None:
    if graph.edge_weight is None:
        return
    entries = method.get("distills", ()) if isinstance(method, Mapping) else ()
    names = [name for name in nested(method) if name in EDGE_READERS]
    for entry in entries:
        try:
            loss = kdlosses.build(entry["loss"])
        except (KeyError, TypeError, ValueError):  # named where the method runs
            continue
        names += [loss.name] if "edge_index" in loss.needs else []
    if names:
        raise ValueError(_unused(f"the method {names[0]!r}", "a method that reads no edges, such as 'glnn'"))


def _unused(what: str, able: str) -> str:
    return f"the graph has edge_weight, which {what} does not use; remove it, or choose {able}"


def any_ready(teachers: Sequence[TeacherSpec]) -> bool:
    return any(isinstance(each, nn.Module) for each in teachers)


def check_writable(name: str, path: str | Path) -> None:
    """Raise OSError if nothing can be written at a path, so that it is not found out after a training."""
    above = Path(path).absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "is no folder" if not above.is_dir() else "is a folder that cannot be written"
        raise OSError(f"{name}={str(path)!r} cannot be written: {above} {why}; choose another")


def warn_one_way(given: Graph, teachers: Sequence[TeacherSpec] = (), stacklevel: int = 3) -> None:
    if count := one_way(given):
        warnings.warn(
            f"{count} of {given.edge_index.shape[1]} edges have no reverse: they count in both directions"
            + (", but for the ready module" if any_ready(teachers) else ""),
            stacklevel=stacklevel,
        )


def warn_unless(sure: bool, who: str, says: bool) -> None:
    if not sure:
        how = "was trained on another split" if says else "has no record of its training split"
        warnings.warn(
            f"{who} {how}: if it has seen labels of test nodes, all accuracies here are too high "
            "(see graphkd.train_teacher)",
            stacklevel=5,
        )


def warn_if_no_better(name: str, teacher: Outcome, control: Outcome) -> None:
    own_tasks = teacher.cache is not None and teacher.cache.own_tasks
    if own_tasks or teacher.val is None or control.val is None or teacher.val > control.val:
        return
    warnings.warn(
        f"{name}: no teacher is better than the student without one ({teacher.val:.3f} and {control.val:.3f} on the "
        "validation nodes): there is little to distill; train the teacher longer, choose another, or keep the control",
        stacklevel=3,
    )
