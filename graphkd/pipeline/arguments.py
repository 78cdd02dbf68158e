"""Check and normalise the arguments of `distill` and related functions."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from graphkd.data import Graph, Split, as_split, split_of
from graphkd.data.positions import Inputs
from graphkd.data.split import Masks
from graphkd.sparse.rows import Matrix, to_scipy
from graphkd.spec import plain, real, whole
from graphkd.students.classifier import StudentClassifier
from graphkd.students.regressor import StudentRegressor
from graphkd.teachers import TEACHERS
from graphkd.teachers.rows import built_for
from graphkd.training.cache import Cache

SplitSpec = Split | Mapping[str, Any] | Sequence[Any] | np.ndarray | Tensor | int
Student = Any  # a StudentClassifier, or a Pipeline that ends in one


def checked_seed(seed: Any) -> int:
    """Return a seed as a Python integer; raise TypeError or ValueError if it is invalid."""
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed is a whole number, not {seed!r}")
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"seed is from 0 to 2**32 - 1, got {seed}")
    return int(seed)


def check_spec(what: str, spec: Any) -> None:
    """Raise TypeError unless this is a name, a dict of a name and options, or a function."""
    if isinstance(spec, nn.Module) or not (isinstance(spec, str | Mapping) or callable(spec)):
        raise TypeError(f"a {what} is a name, dict(type=name, **options) or a function; got {type(spec).__name__}")


def name_of(builder: Any) -> str:
    """Name of a function, of the function in a `functools.partial`, or else of the object's class."""
    while isinstance(builder, functools.partial):
        builder = builder.func
    return getattr(builder, "__name__", type(builder).__name__)


def bound_options(builder: Any) -> dict[str, Any]:
    """Options bound by a `functools.partial`."""
    return plain(dict(builder.keywords)) if isinstance(builder, functools.partial) else {}


def as_json(value: Any) -> Any:
    """Convert settings to JSON for a cache: JSON values as they are, others by their names."""
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(as_json, value)) if type(value) in (list, tuple) else list(map(as_json, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return (
        as_json(value.tolist()) if isinstance(value, np.ndarray | Tensor) else getattr(value, "__name__", repr(value))
    )


def check_options(builder: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise ValueError if a numeric option of a built-in builder is not a number in range."""
    for name, parameter in inspect.signature(builder).parameters.items():
        if name not in options or isinstance(parameter.default, bool):
            continue
        if isinstance(parameter.default, int):
            may_be_0 = name in ("hops", "reach", "steps", "concat")
            least = 0 if may_be_0 or (name == "layers" and builder.__name__ == "hopwise") else 1
            whole(name, options[name], least)
        elif isinstance(parameter.default, float):
            real(name, options[name], below=1 if "dropout" in name else math.inf)


def chosen_split(graph: Graph, split: SplitSpec | None, seed: int) -> Split:
    """The split given, as a column of the graph's masks or as a split; else that of the graph, see `split_of`."""
    if split is None:
        return split_of(graph, seed)
    if isinstance(split, int | np.integer) and not isinstance(split, bool):
        if isinstance(graph.split, Masks):
            return graph.split.column(int(split))
        if isinstance(graph.split, Split) and split == 0:
            return graph.split
        raise ValueError(f"split={split} chooses a column of the graph's masks (N, k), which it has not")
    return as_split(split, len(graph))


def as_cache(teacher: Any, graph: Graph) -> Any:
    """Wrap raw logits in a cache; NaN in all columns of unseen nodes. Return any other teacher unchanged."""
    if not isinstance(teacher, np.ndarray | Tensor):
        return teacher
    if isinstance(teacher, Tensor) and not teacher.is_complex():
        teacher = teacher.detach().cpu().float()
    logits = np.asarray(teacher)
    if logits.dtype.kind not in "iuf" or logits.shape != (len(graph), graph.num_classes):
        raise ValueError(
            f"the teacher's logits are {logits.dtype} {logits.shape}; expected numbers, {len(graph)} nodes by "
            f"{graph.num_classes} classes"
        )
    logits = logits.astype(np.float32)
    observed = ~np.isnan(logits).all(1)
    settings = {"teacher": {"type": "logits"}, "split": None}
    return Cache(logits, graph.node_id.numpy(), observed, graph.fingerprint(), settings=settings)


def built(builder: Callable[..., nn.Module], width: int, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network by a function `(in_features, classes, **options)`, on the CPU; TypeError if it is no module."""
    if builder in TEACHERS.values() and "pool" in options:
        raise TypeError(f"teacher {name_of(builder)!r} has the option 'pool' for lists of graphs alone; leave it out")
    try:
        inspect.signature(builder).bind(width, classes, **options)
    except TypeError as error:
        raise TypeError(
            f"the teacher {name_of(builder)!r} must be a function (in_features, classes): {error}"
        ) from error
    except ValueError:  # it has no signature to look at
        pass
    network = builder(width, classes, **options)
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"the teacher {name_of(builder)!r} returns a {type(network).__name__}; expected a torch.nn.Module from "
            "(in_features, classes)"
        )
    return network.cpu()


def built_on(graph: Graph, builder: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    """Build a network as `built` does, for whatever a teacher reads of this graph."""
    if graph.reads is None:
        return built(builder, graph.x.shape[1], graph.num_classes, options)
    network = built_for(graph.reads, builder, graph.num_classes, options, name_of(builder))
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"the teacher {name_of(builder)!r} returns a {type(network).__name__}; expected a torch.nn.Module"
        )
    return network.cpu()


def checked_student(student: Any, task: str = "single-label") -> Student:
    """Check a student or a Pipeline that ends in one; return the default of `distill` for None, else TypeError."""
    numbers = task == "regression"
    if student is None:
        return StudentRegressor() if numbers else StudentClassifier()
    if (
        isinstance(last_step(student), StudentClassifier)
        and isinstance(last_step(student), StudentRegressor) != numbers
    ):
        kinds = ("StudentRegressor", "numbers") if numbers else ("StudentClassifier", "classes or labels")
        raise TypeError(f"student is a {type(last_step(student)).__name__}; of {kinds[1]} take a {kinds[0]}")
    if not isinstance(last_step(student), StudentClassifier):
        what = f"the class {student.__name__}; call it" if inspect.isclass(student) else f"a {type(student).__name__}"
        raise TypeError(f"student is a StudentClassifier, or a Pipeline whose last step is one; got {what}")
    return student


def with_run(student: Any, device: Any, amp: bool) -> Any:
    """A student, or None, that is trained on a device, or in bfloat16, if that is asked for; a copy, then."""
    asked = {**({} if device is None else {"device": device}), **({"amp": True} if amp else {})}
    if student is None or not asked or not isinstance(last_step(student), StudentClassifier):
        return student
    student = clone(student)
    last_step(student).set_params(**asked)
    return student


def last_step(student: Any) -> Any:
    """The student at the end of a Pipeline, or the student itself."""
    return student.steps[-1][1] if isinstance(student, Pipeline) else student


def fitted_steps(student: Student, given: Inputs | None) -> tuple[Any, list[tuple[str, Any]]]:
    """Fit the steps of a Pipeline before the student on the seen features; return the new features and the steps."""
    if not isinstance(student, Pipeline) or given is None or len(student.steps) == 1:
        return given, []
    before = clone(student[:-1])
    try:
        found = [before.fit_transform(_array(given.seen)), before.transform(_array(given.linked))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the student's Pipeline fits its steps before the last on features alone: {error}") from error
    found.append(found[1] if given.alone is given.linked else before.transform(_array(given.alone)))
    seen, linked, alone = (x.tocsr() if hasattr(x, "tocsr") else np.asarray(x, np.float32) for x in found)
    return Inputs(seen, linked, linked if given.alone is given.linked else alone, given.more), before.steps


def _array(x: Matrix) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.numpy() if x.layout is torch.strided else to_scipy(x)
