"""What a comparison trains: the names of its teachers and methods, and what is logged to tell them apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from graphkd.pipeline.arguments import as_json, name_of
from graphkd.pipeline.logs import labels
from graphkd.training.cache import Cache


def plan_of(teachers: Sequence[Any], methods: Sequence[Any]) -> list[tuple[str, Any, Any, list[tuple[str, Any, Any]]]]:
    """For each teacher its name, itself, what is logged of it, and the methods with theirs."""
    told = [_told(each) for each in teachers]
    short = [_short(each) for each in teachers]
    called = [
        name if short.count(name) == 1 else f"{name} ({_options(each, place)})"
        for place, (name, each) in enumerate(zip(short, teachers))
    ]
    names = labels([each if isinstance(each, dict) else name_of(each) for each in methods])
    if len(set(names)) < len(names) or len(set(map(key_of, told))) < len(told):
        raise ValueError(
            f"two teachers or two methods are the same, or functions of one name: {', '.join(called)}; "
            f"{', '.join(names)}"
        )
    several = len(teachers) > 1
    return [
        (
            teacher_name,
            teacher,
            spec,
            [
                (
                    f"{name} from {teacher_name}" if several else name,
                    method,
                    {"teacher": spec, "method": as_json(method)},
                )
                for name, method in zip(names, methods)
            ],
        )
        for teacher_name, teacher, spec in zip(called, teachers, told)
    ]


def _short(teacher: Any) -> str:
    if isinstance(teacher, Cache):
        return "cache"
    if isinstance(teacher, nn.Module):
        return type(teacher).__name__
    kind = teacher.get("type") if isinstance(teacher, dict) else teacher
    return kind.rpartition(":")[2] if isinstance(kind, str) else name_of(kind)


def _options(teacher: Any, place: int) -> str:
    options = {key: value for key, value in teacher.items() if key != "type"} if isinstance(teacher, dict) else {}
    told = {key: f"cache {place}" if isinstance(value, Cache) else value for key, value in options.items()}
    return ", ".join(f"{key}={value}" for key, value in told.items()) or str(place)


def _told(teacher: Any) -> Any:
    """What is logged of a teacher, so that another one is told apart: of weights and logits their hash."""
    if isinstance(teacher, nn.Module):
        taps = getattr(teacher, "hidden_taps", None)
        told = {"module": type(teacher).__name__, "weights": _hash(teacher.state_dict().values())}
        return told if taps is None else {**told, "taps": list(taps)}
    if isinstance(teacher, Cache):
        told = {"cache": _hash([np.asarray(teacher.logits)]), "settings": as_json(teacher.settings)}
        return {**told, "hidden": _hash(map(np.asarray, teacher.hidden))} if teacher.hidden else told
    options = teacher if isinstance(teacher, dict) else {"type": teacher}
    return as_json({key: _told(each) if isinstance(each, Cache) else each for key, each in options.items()})


def _hash(arrays: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for each in arrays:
        digest.update(np.ascontiguousarray(each.cpu().float().numpy() if isinstance(each, Tensor) else each).tobytes())
    return digest.hexdigest()


def as_read(value: Any) -> Any:
    """A value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def key_of(spec: Any) -> str:
    return json.dumps(spec, sort_keys=True)
