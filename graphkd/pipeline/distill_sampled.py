"""`distill` on graphs that do not fit."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import nn

from graphkd.data import Graph, Setting, make_setting, sorted_undirected
from graphkd.data.setting import SettingName
from graphkd.pipeline.arguments import SplitSpec, Student, as_cache, chosen_split, last_step
from graphkd.pipeline.checks import (
    check_classes,
    check_connected,
    check_shown,
    check_writable,
    warn_if_no_better,
    warn_one_way,
)
from graphkd.pipeline.measure import network_of
from graphkd.pipeline.outcome import MethodSpec, Outcome, Result, TeacherSpec
from graphkd.pipeline.rehearse import rehearse, untrained
from graphkd.pipeline.sampled import check_sampled, small_setting, train_sampled
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import extras_of
from graphkd.recipes.registry import INPUTS, nested
from graphkd.sparse.edges import by_target
from graphkd.students.classifier import StudentClassifier
from graphkd.teachers.layerwise import trimmed
from graphkd.training.cache import Cache
from graphkd.training.latency import hops, student_latencies, teacher_latencies
from graphkd.training.parallel import barrier, processes
from graphkd.training.watch import Run

NODES, EDGES = 1_000_000, 30_000_000
"""`scale='auto'` samples on a graph of more nodes, or of more edges, both directions counted."""
BATCH, EPOCHS = 4096, 10
"""Of a student that does not say."""


def is_sampled(scale: Any, graph: Graph) -> bool:
    """Whether a graph is distilled in samples; ValueError if `scale` is none of the three."""
    if not isinstance(scale, str) or scale not in ("auto", "full", "sampled"):
        raise ValueError(f"scale is 'auto', 'full' or 'sampled', not {scale!r}")
    return scale == "sampled" or (scale == "auto" and (len(graph) > NODES or graph.edge_index.shape[1] > EDGES))


def batched(student: Student | None) -> Student:
    """The student with a batch size; by default one hidden layer of 256 units, 10 epochs."""
    if student is None:
        return StudentClassifier(hidden=(256,), epochs=EPOCHS, batch_size=BATCH)
    if last_step(student).batch_size is None:
        warnings.warn(
            f"the student takes {BATCH} nodes a step, where scale='sampled': it had no batch_size", stacklevel=3
        )
        student = clone(student)
        last_step(student).set_params(batch_size=BATCH)
    return student


def distill_sampled(
    given: Graph,
    teachers: Sequence[TeacherSpec],
    method: MethodSpec,
    student: Student,
    split: SplitSpec | None,
    seed: int,
    names: Sequence[SettingName],
    isolated: str,
    folder: str | Path | None,
    run: Run,
) -> Result:
    """Do what `distill` documents for `scale='sampled'`; its arguments, checked for their types."""
    check_for_samples(given, [method])
    (teacher,) = teachers if len(teachers) == 1 else (None,)
    if teacher is None:
        raise ValueError("scale='sampled' takes one teacher; of several join the caches, see `Cache.join`")
    graph = sorted_undirected(given)
    if graph is not given:
        warn_one_way(given, stacklevel=4)
    check_connected(graph, isolated)
    chosen = chosen_split(graph, split, seed)
    teacher = as_cache(teacher, graph)
    if isinstance(teacher, Cache) and len(names) > 1:  # it is of one setting
        names = ("tran",) if teacher.observed.all() else ("ind",)
    last_step(student).check_settings()
    views = [make_setting(graph, chosen, name, seed) for name in names]
    if isinstance(teacher, Cache):
        for view in views:
            check_shown(view, teacher)
            check_classes(view, teacher)
    places = folders(folder, names)
    if places and isinstance(teacher, Cache):
        warnings.warn(f"folder={str(folder)!r} stays empty: the teacher is a cache already", stacklevel=3)
    if not places and processes()[1] > 1 and not isinstance(teacher, Cache):
        raise ValueError("several processes share the teacher's cache: pass folder=, one that all of them see")
    barrier()  # no process has begun to write before all have looked
    rehearse_sampled(views[0], teacher, [method], student, seed)
    kept = bool(places) or isinstance(teacher, Cache)
    if not places:
        places = [Path() if kept else Path(tempfile.mkdtemp(prefix="graphkd-")) for _ in names]
    fingerprint = teacher.fingerprint if isinstance(teacher, Cache) else graph.fingerprint()
    told: dict[str, Any] = {"progress": run.progress, "callback": run.callback}
    outcomes: dict[str, dict[SettingName, Outcome]] = {"teacher": {}, "control": {}, "student": {}}
    with contextlib.ExitStack() as scratch:
        for place in () if kept else places:
            scratch.callback(shutil.rmtree, place, ignore_errors=True)
        for view, place in zip(views, places):
            taught = train_sampled(view, teacher, seed, place, fingerprint, run)
            control = train_student(view, None, "supervised", student, seed, **told)
            outcomes["teacher"][view.name], outcomes["control"][view.name] = taught, control
            outcomes["student"][view.name] = train_student(view, taught.cache, method, student, seed, **told)
            warn_if_no_better(view.name, taught, control)
            if not kept:
                weakref.finalize(taught.cache, shutil.rmtree, place, ignore_errors=True)
        scratch.pop_all()  # nothing failed: each goes with its cache
    latency = {role: sampled_latency(graph, outcomes[role][names[0]]) for role in ("teacher", "student")}
    return Result.of(outcomes, {role: found for role, found in latency.items() if found is not None})


def check_for_samples(given: Graph, methods: Sequence[MethodSpec], scoring: Any = None) -> None:
    """Raise ValueError if a graph, a method or a score needs more than samples of the graph."""
    for method in methods:
        names = [*nested(method)]
        if (more := extras_of(method)) or any(name in INPUTS for name in names):
            what = f"{sorted(more)} of its teacher" if more else "features made from all of the graph"
            raise ValueError(
                f"the method {names[0]!r} needs {what}: scale='sampled' keeps logits alone; pass scale='full'"
            )
    if scoring is not None:
        raise ValueError("scale='sampled' chooses epochs by accuracy: leave out scoring, or pass scale='full'")
    if given.task != "single-label" or given.reads is not None:
        raise ValueError("scale='sampled' is for one kind of nodes with one label each: pass scale='full'")
    if given.edge_weight is not None:
        raise ValueError("scale='sampled' counts all edges the same: remove edge_weight, or pass scale='full'")


def folders(folder: str | Path | None, names: Sequence[str]) -> list[Path]:
    """Where the caches of the settings go; FileExistsError if there is something."""
    found = [] if folder is None else [Path(folder) / name for name in names]
    if folder is not None:
        check_writable("folder", found[0])
    for there in found:
        if there.exists():
            raise FileExistsError(
                f"{there} exists: choose another folder, or pass graphkd.Cache.load({str(there)!r}) as the teacher"
            )
    return found


def rehearse_sampled(view: Setting, teacher: Any, methods: Sequence[MethodSpec], student: Student, seed: int) -> None:
    """`rehearse` on a small part of the graph, with a teacher that leaves what it leaves here: logits."""
    mini = small_setting(view, seed)
    check_sampled(teacher, mini, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(teacher, Cache):
            nodes = torch.zeros(len(mini.whole), view.whole.num_classes)
            cache: Any = as_cache(nodes, mini.whole)
        else:
            spec = teacher if isinstance(teacher, nn.Module) else untrained(teacher)
            cache = train_teacher(mini, spec, seed).cache
        rehearse(mini, replace(cache, hidden=(), parts=(), more={}, params={}), methods, student, seed)


def sampled_latency(graph: Graph, outcome: Outcome) -> dict[str, float] | None:
    """Milliseconds of a teacher or a student on a graph that does not fit; None of a teacher that is but a cache."""
    network = outcome.model
    if outcome.cache is not None:
        if network is None:
            return None
        crow, _ = by_target(graph.edge_index, len(graph))
        same = hops(network) == len(network.layers)  # else some layers read no edge, as in `hopwise`
        forward = functools.partial(trimmed, network) if same else None
        return teacher_latencies(network, graph.x, graph.edge_index, crow, 1e3 * outcome.applied, forward)
    start = time.perf_counter()
    network.predict(graph.x if not isinstance(network, Pipeline) else outcome.x)
    all_nodes = 1e3 * (time.perf_counter() - start)
    return student_latencies(network_of(network), graph.x if outcome.x is None else outcome.x, all_nodes)
