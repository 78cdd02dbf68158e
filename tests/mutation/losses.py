"""Calls of every registered loss, with one or two things wrong: an option, a tensor, or what comes with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from contract.test_losses import KEYS, context_of, options_of, pair, shapes_of  # what each loss is called with
from mutation.judge import Silent
from mutation.values import SCALARS, damaged
from torch import Tensor

import kdlosses

Call = Callable[[], Any]


def case(number: int, seed: int) -> tuple[str, Call]:
    """Case `number`: a description, and the call. The losses take turns."""
    draw = random.Random(f"{seed}-{number}")
    key = KEYS[number % len(KEYS)]
    shape = draw.choice(shapes_of(key))
    student, teacher = pair(shape, torch.float32)
    inputs: dict[str, Any] = {"student": student, "teacher": teacher, **context_of(key, shape)}
    options = dict(options_of(key))
    told = [key]
    for _ in range(draw.choice((1, 1, 2))):
        what = draw.choice(("option", "tensor", "context"))
        if what == "option":
            name = draw.choice([*_options(key), "taux"])
            options[name] = draw.choice(SCALARS)
            told.append(f"{name}={options[name]!r}")
        elif what == "tensor":
            name = draw.choice(("student", "teacher"))
            change, inputs[name] = _changed(inputs[name], draw)
            told.append(f"{name}: {change}")
        else:
            name = draw.choice([*kdlosses.CONTEXT, "wieght"])
            change, inputs[name] = _changed(_context(name, shape, inputs), draw)
            told.append(f"{name}: {change}")
    return ", ".join(told), lambda: _call(key, options, inputs)


def _options(key: str) -> list[str]:
    import inspect

    parameters = inspect.signature(kdlosses.LOSSES[key]).parameters
    return [name for name in parameters if name not in ("student", "teacher", *kdlosses.CONTEXT)] or ["tau"]


def _context(name: str, shape: tuple[int, ...], inputs: dict[str, Any]) -> Any:
    if name in inputs:
        return inputs[name]
    if name == "weight":
        return torch.rand(shape[:1] + shape[2:])
    if name in ("labels", "label_map"):
        return torch.randint(shape[1], shape[:1] + shape[2:])
    return {"progress": 0.5, "epoch": 3}.get(name, torch.rand(shape))


def _changed(value: Any, draw: random.Random) -> tuple[str, Any]:
    if isinstance(value, list) and value and isinstance(value[0], Tensor) and draw.random() < 0.7:
        change, first = damaged(value[0], draw)
        return f"first {change}", [first, *value[1:]]
    return damaged(value, draw)


def _call(key: str, options: dict[str, Any], inputs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    loss = kdlosses.build(dict(type=key, **options))
    student = inputs["student"]
    if isinstance(student, Tensor) and student.is_floating_point() and not student.is_meta:
        student = student.detach().requires_grad_()
    value = loss(**{**inputs, "student": student})
    if not isinstance(value, Tensor) or value.shape != ():
        raise AssertionError(f"the loss returned {value!r}")
    inputs = {**inputs, "student": student}
    if not value.isfinite():
        if all(_finite(each) for each in (*inputs.values(), *options.values())):
            raise Silent("silent nan")
        return
    if not value.requires_grad:
        raise Silent("silent zero")
    (gradient,) = torch.autograd.grad(value, student, allow_unused=True)
    dead = gradient is None or not gradient.abs().sum() > 0
    if value == 0 and dead and _teaches(loss, inputs):
        raise Silent("silent zero")


def _finite(value: Any) -> bool:
    """Whether nothing in a value explains an infinite loss: it is finite, and not so large that its square is not."""
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    try:
        found = torch.as_tensor(value).double()
    except (TypeError, ValueError, RuntimeError):
        return True
    return not found.is_meta and bool((found.abs() < 1e15).all())


def _teaches(loss: kdlosses.Loss, inputs: dict[str, Any]) -> bool:
    """Whether there is something to learn: positions that count, a difference, and a loss that is on."""
    student, teacher = inputs["student"], inputs["teacher"]
    now = {name: value for name, value in inputs.items() if name in ("progress", "epoch")}
    if not student.numel() or not loss.active(**now):
        return False
    if getattr(loss.loss, "fit_steps", 1) > 1:  # it looks at more batches before it teaches
        return False
    for name in ("weight", "boxes_bev", "masks"):
        given = inputs.get(name)
        if name in loss.needs and given is not None and not sum(float(torch.as_tensor(each).sum()) for each in given):
            return False
    if student.shape == teacher.shape and torch.equal(student.double(), teacher.double()):
        return False
    return bool(student.double().std() > 0) and bool(teacher.double().std() > 0)
