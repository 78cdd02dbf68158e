"""Parse the teacher argument of `distill` and `train_teacher`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from graphkd.pipeline.arguments import (
    check_options,
    name_of,
)
from graphkd.pipeline.outcome import TeacherSpec, TeacherSpecs
from graphkd.recipes import OF_GRAPH_NETWORKS
from graphkd.spec import plain, resolve
from graphkd.teachers import TEACHERS, TUNES, WEIGHT_DECAY
from graphkd.teachers.taps import with_taps
from graphkd.training.cache import Cache
from graphkd.training.loop import Schedule


def listed(teacher: TeacherSpecs) -> list[TeacherSpec]:
    """Return teachers as a list, a dict of a module and its taps as a module; an `nn.Sequential` is one teacher."""
    if not isinstance(teacher, Sequence) or isinstance(teacher, str | nn.Module):
        return [_ready(teacher)]
    if not teacher:
        raise ValueError("the list of teachers is empty; pass at least one")
    return [_ready(each) for each in teacher]


def _ready(teacher: TeacherSpec) -> TeacherSpec:
    if not isinstance(teacher, Mapping) or "module" not in teacher:
        return teacher
    strange = sorted(teacher.keys() - {"module", "taps"})
    if strange or not isinstance(teacher["module"], nn.Module):
        what = f"has no option {strange[0]!r}" if strange else f"has a {type(teacher['module']).__name__} as module"
        raise TypeError(f"a ready teacher is dict(module=network, taps=[paths]); this one {what}")
    return with_taps(teacher["module"], teacher.get("taps"))


def parse_teacher(
    teacher: TeacherSpec,
) -> tuple[Callable[..., nn.Module], dict[str, Any], Schedule, dict[str, Any], Any, dict[str, Any], Any]:
    """Parse a teacher to be trained: builder, its options, schedule, share, fine-tuning, its own teacher and taps."""
    options: dict[str, Any] = plain(dict(teacher)) if isinstance(teacher, Mapping) else {"type": teacher}
    kind = options.get("type")
    if isinstance(kind, nn.Module | Cache) or not (isinstance(kind, str) or callable(kind)):
        what = type(kind).__name__ if kind is teacher else f"a dict with a {type(kind).__name__} as type"
        raise TypeError(
            "a teacher is a name of graphkd.teachers, dict(type=name, **options), a function (in_features, classes) -> "
            f"Module, a trained module, a Cache or logits (N, C); got {what}"
        )
    if isinstance(kind, functools.partial) and kind.func in TEACHERS.values() and not kind.args:
        options = {**plain(kind.keywords), **options, "type": kind.func}
    wanted = {field.name: options.pop(field.name) for field in fields(Schedule) if field.name in options}
    share: dict[str, Any] = {key: options.pop(key) for key in ("shard", "known", "task", "soft") if key in options}
    tune, taps = options.pop("tune", None), options.pop("taps", None)
    if tune is not None:
        resolve("tune", tune, TUNES)
    taught: dict[str, Any] = {key: options.pop(key) for key in ("source", "method", "inputs") if key in options}
    if "method" in taught:
        resolve("method", taught["method"], OF_GRAPH_NETWORKS)
    if taught and not isinstance(taught.get("source"), Cache):
        raise ValueError(f"a teacher that is itself taught, or reads {sorted(taught)}, needs a Cache as its 'source'")
    if taught.keys() == {"source"}:
        raise ValueError("a teacher with a 'source' needs a 'method' that teaches it, or 'inputs', or both")
    if tune is not None and "method" in taught:
        raise ValueError("a teacher that is taught by a 'method' is not fine-tuned: leave 'tune' out")
    ours = kind in TEACHERS if isinstance(kind, str) else options["type"] in TEACHERS.values()
    pool = {"pool": options.pop("pool")} if ours and "pool" in options else {}  # of graphs, see `built_for`
    try:
        builder, options = resolve("teacher", options, TEACHERS)
        options |= pool
    except ValueError as error:  # it has no signature
        raise TypeError(f"the teacher {name_of(kind)!r} must be a function (in_features, classes): {error}") from error
    if builder in TEACHERS.values():
        check_options(builder, options)
    decay = WEIGHT_DECAY.get(name_of(builder), 5e-4)
    return builder, options, Schedule(**{"weight_decay": decay, "epochs": 200, **wanted}), share, tune, taught, taps
