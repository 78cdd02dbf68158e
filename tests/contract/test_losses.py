"""What every registered loss and policy owes its callers.

A loss enrols by being registered. What it is built with, and where a rule does not hold for a reason, stands in its own
test file, as a `LossContract`; one that needs nothing of the kind passes without.
"""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import LossContract, check_rule, entry_of, home_of
from torch import Tensor

import densekd.losses
import graphkd.losses
import kdlosses

OF_SAMPLES = ("labels", "label_map", "batch", "boxes", "boxes_bev", "student_logits", "teacher_logits")
"""Context that has a row for each sample."""

NODES, MAPS = (24, 5), (3, 5, 4, 6)


SIZES = ("student_channels", "teacher_channels", "channels", "classes")


def entry(key: str) -> LossContract:
    return entry_of(LossContract, key)


def rule(key: str, field: str, holds: bool) -> None:
    check_rule(entry(key), kdlosses.LOSSES[key], field, holds)


def loss_of(key: str, dtype: torch.dtype = torch.float64) -> kdlosses.Loss:
    """Build a fresh loss; one that has parameters or a memory starts from the same state each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return kdlosses.build(dict(type=key, **options_of(key))).to(dtype)
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"{error}: with which options is loss {key!r} tested? Write into {home_of(kdlosses.LOSSES[key])}\n"
                f"from contract.entry import LossContract\n\nCONTRACT = LossContract({key!r}, options=dict(...))"
            ) from error


def options_of(key: str) -> dict[str, Any]:
    """What the loss is built with: its sizes that have no default, and what its entry says."""
    arguments = inspect.signature(kdlosses.LOSSES[key]).parameters
    sizes = {k: 5 for k in SIZES if k in arguments and arguments[k].default is inspect.Parameter.empty}
    return {**sizes, **entry(key).options}


@functools.cache
def needs_of(key: str) -> tuple[str, ...]:
    """Context that the loss takes; of one that cannot be built none: its tests say why."""
    try:
        return loss_of(key).needs
    except AssertionError:
        return ()


def shapes_of(key: str) -> list[tuple[int, ...]]:
    if "edge_index" in needs_of(key):
        return [NODES]
    return [MAPS] if kdlosses.LOSSES[key].__module__.startswith("densekd.") else [NODES, MAPS]


def shape_of(key: str) -> tuple[int, ...]:
    return shapes_of(key)[0]


def pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    student, teacher = (2 * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    return student.requires_grad_(), teacher


def context_of(key: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Everything that the loss cannot do without, at this shape."""
    generator = torch.Generator().manual_seed(11)
    n, classes, *rest = shape
    boxes = torch.tensor([[2.9, 2.1, 3.7, 1.4, 0.4], [0.6, 0.7, 2.2, 1.0, -1.1], [4.3, 3.1, 2.5, 1.6, 2.0]])
    corners = torch.tensor([[0.3, 0.6, 2.2, 2.9], [3.1, 1.0, 5.2, 3.4], [2.5, 0.0, 4.0, 1.5]])
    made = {
        "boxes": [corners.roll(i, 0)[: 3 - i % 2] for i in range(n)],  # on a map of 4 by 6 positions
        "boxes_bev": [boxes.roll(i, 0)[: 3 - i % 2] for i in range(n)],  # a map of 6 by 4 metres
        "labels": torch.randint(classes, (n, *rest), generator=generator),
        "label_map": torch.randint(classes, (n, *(2 * size for size in rest)), generator=generator),
        "edge_index": torch.randint(max(n, 1), (2, 4 * n), generator=generator),
        "batch": torch.arange(n) // 8,
        "progress": 0.5,
        "epoch": 3,
        "student_logits": torch.randn(shape, generator=generator),
        "teacher_logits": torch.randn(shape, generator=generator),
    }
    return {name: made[name] for name in loss_of(key).requires}


KEYS = sorted(kdlosses.LOSSES)
CASES = [
    pytest.param(key, shape, id=f"{key}-{'nodes' if len(shape) == 2 else 'maps'}")
    for key in KEYS
    for shape in shapes_of(key)
]
WEIGHTED = [case for case in CASES if "weight" in needs_of(case.values[0])]
every_loss = pytest.mark.parametrize("key", KEYS)
every_case = pytest.mark.parametrize(("key", "shape"), CASES)
every_weighted_case = pytest.mark.parametrize(("key", "shape"), WEIGHTED)


@every_case
def test_value_is_a_finite_scalar(key: str, shape: tuple[int, ...]) -> None:
    value = loss_of(key)(*pair(shape), **context_of(key, shape))
    assert value.shape == ()
    assert value.isfinite()


@every_case
def test_perfect_student_is_a_fixed_point(key: str, shape: tuple[int, ...]) -> None:
    _, teacher = pair(shape)
    student = teacher.clone().requires_grad_()
    value = loss_of(key)(student, teacher, **context_of(key, shape))
    value.backward()
    fixed = student.grad.abs().max() < 1e-6
    rule(key, "no_fixed_point", bool(fixed))
    if not entry(key).no_fixed_point:
        rule(key, "entropy", bool(value.abs() < 1e-6))
        moved = teacher + 0.1 * torch.randn_like(teacher)
        assert entry(key).stopped or loss_of(key)(moved, teacher, **context_of(key, shape)) > value


@every_case
def test_gradient_reaches_the_student_only(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    teacher.requires_grad_()
    loss_of(key)(student, teacher, **context_of(key, shape)).backward()
    assert teacher.grad is None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0


@every_loss
def test_takes_a_weight(key: str) -> None:
    rule(key, "no_weight", "weight" in loss_of(key).needs)


@every_weighted_case
@pytest.mark.parametrize("kind", [torch.bool, torch.float64])
def test_masked_positions_cannot_matter(key: str, shape: tuple[int, ...], kind: torch.dtype) -> None:
    student, teacher = pair(shape)
    context = context_of(key, shape)
    weight = (torch.rand(shape[:1] + shape[2:]) < 0.6).to(kind)
    value = loss_of(key)(student, teacher, weight=weight, **context)
    (gradient,) = torch.autograd.grad(value, student)
    masked = (weight == 0).unsqueeze(1).expand_as(student)
    assert (gradient[masked] == 0).all()
    assert gradient[~masked].abs().sum() > 0

    noise = 100 * torch.randn_like(teacher)
    other = (student + noise).where(masked, student)
    elsewhere = loss_of(key)(other, teacher.where(~masked, -noise), weight=weight, **context)
    torch.testing.assert_close(elsewhere, value)
    if "labels" in context:
        context["labels"] = context["labels"].where(weight > 0, 0)
        torch.testing.assert_close(loss_of(key)(student, teacher, weight=weight, **context), value)


@every_weighted_case
def test_uniform_weight_changes_nothing(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    ones = torch.ones(shape[:1] + shape[2:], dtype=torch.bool)
    context = context_of(key, shape)
    torch.testing.assert_close(
        loss_of(key)(student, teacher, weight=ones, **context), loss_of(key)(student, teacher, **context)
    )


@every_weighted_case
def test_empty_selection_is_zero_and_keeps_the_graph(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    value = loss_of(key)(student, teacher, weight=torch.zeros(shape[:1] + shape[2:]), **context_of(key, shape))
    assert value == 0
    value.backward()
    assert (student.grad == 0).all()


@every_loss
def test_no_position_at_all_is_zero_and_keeps_the_graph(key: str) -> None:
    shape = (0, *shape_of(key)[1:])
    student = torch.zeros(shape, requires_grad=True)
    value = loss_of(key)(student, torch.zeros(shape), **context_of(key, shape))
    assert value == 0
    value.backward()


@pytest.mark.parametrize(
    "key",
    [
        key
        for key in KEYS
        if NODES in shapes_of(key)
        and "edge_index" not in needs_of(key)
        and not entry(key).no_copies
        and not entry(key).no_weight
    ],
)
def test_weight_two_is_two_copies(key: str) -> None:
    student, teacher = pair(NODES)
    context = context_of(key, NODES)
    copies = torch.randint(0, 3, NODES[:1])
    repeat = {
        name: value.repeat_interleave(copies, 0) if isinstance(value, Tensor) else value
        for name, value in context.items()
    }
    torch.testing.assert_close(
        loss_of(key)(student, teacher, weight=copies.double(), **context),
        loss_of(key)(student.repeat_interleave(copies, 0), teacher.repeat_interleave(copies, 0), **repeat),
    )


@pytest.mark.parametrize("key", [key for key in KEYS if {NODES, MAPS} <= set(shapes_of(key))])
def test_a_node_is_a_pixel_with_no_height_and_width(key: str) -> None:
    student, teacher = pair(MAPS)
    context = context_of(key, MAPS)
    flat = {name: value.flatten() if name == "labels" else value for name, value in context.items()}
    flat |= {name: value.movedim(1, -1).flatten(0, -2) for name, value in flat.items() if name.endswith("_logits")}
    on_maps = loss_of(key)(student, teacher, **context)
    on_nodes = loss_of(key)(*(x.movedim(1, -1).flatten(0, -2) for x in (student, teacher)), **flat)
    rule(key, "per_sample", bool(torch.isclose(on_maps, on_nodes)))


@every_case
def test_order_of_the_batch_cannot_matter(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    context = context_of(key, shape)
    order = torch.randperm(shape[0])
    moved = {
        name: ([value[i] for i in order] if isinstance(value, list) else value[order]) if name in OF_SAMPLES else value
        for name, value in context.items()
    }
    if "edge_index" in moved:
        moved["edge_index"] = torch.argsort(order)[moved["edge_index"]]
    torch.testing.assert_close(
        loss_of(key)(student[order], teacher[order], **moved), loss_of(key)(student, teacher, **context)
    )


@every_case
def test_gradient_is_that_of_the_value(key: str, shape: tuple[int, ...]) -> None:
    shape = (min(shape[0], 6), *shape[1:2], *(min(size, 4) for size in shape[2:]))
    student, teacher = pair(shape)
    context = context_of(key, shape)
    loss = loss_of(key)
    loss(student, teacher, **context)  # what the first batch settles is settled, and stays in eval mode
    loss.eval()
    rule(
        key, "stopped", torch.autograd.gradcheck(lambda s: loss(s, teacher, **context), student, raise_exception=False)
    )


@every_case
def test_autocast_keeps_float32(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = (x.detach().bfloat16() for x in pair(shape))
    context = context_of(key, shape)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss_of(key, torch.float32)(student, teacher, **context)
        from_float = loss_of(key, torch.float32)(student.float(), teacher.float(), **context)
    assert value.dtype == torch.float32
    assert value == from_float
    exact = loss_of(key)(student.double(), teacher.double(), **context)
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)


@every_case
def test_memory_layout_cannot_matter(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    context = context_of(key, shape)
    strided = [torch.stack([x, x], -1)[..., 0] for x in (student, teacher)]
    last = [x.movedim(1, -1).contiguous().movedim(-1, 1) for x in (student, teacher)]  # channels_last of maps
    value = loss_of(key)(student, teacher, **context)
    torch.testing.assert_close(loss_of(key)(*strided, **context), value)
    torch.testing.assert_close(loss_of(key)(*last, **context), value)


@every_loss
def test_survives_deepcopy_and_pickle(key: str) -> None:
    loss, context, both = loss_of(key), context_of(key, shape_of(key)), pair(shape_of(key))
    loss(*both, **context)  # one that has a memory now has something in it
    twins = copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))
    value = loss(*both, **context)
    assert all(twin(*both, **context) == value for twin in twins)


@every_loss
def test_compiles_without_a_graph_break(key: str) -> None:
    """On maps where it takes them: a node is a pixel, and compiling for both would be half of this suite's time."""
    torch._dynamo.reset()
    shape = shapes_of(key)[-1]
    student, teacher = pair(shape, torch.float32)
    context = context_of(key, shape)
    loss = loss_of(key, torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")  # fullgraph: a break is an error
    value = compiled(student, teacher, **context)
    value.backward()
    expected = loss_of(key, torch.float32)(student, teacher, **context)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(student.grad, *torch.autograd.grad(expected, student))


@every_loss
def test_a_typo_raises_at_build(key: str) -> None:
    with pytest.raises(KeyError, match=key):
        kdlosses.build(key + "x")
    with pytest.raises(TypeError, match="has no option 'taux'"):
        kdlosses.build(dict(type=key, **options_of(key), taux=1.0))
    with pytest.raises(TypeError, match="unknown context 'wieght'; did you mean 'weight'"):
        loss_of(key)(*pair(shape_of(key)), wieght=1.0)


@every_loss
def test_missing_context_is_named(key: str) -> None:
    for name in loss_of(key).requires:
        context = {k: v for k, v in context_of(key, shape_of(key)).items() if k != name}
        with pytest.raises(TypeError, match=name):
            loss_of(key)(*pair(shape_of(key)), **context)


@every_loss
def test_shapes_that_do_not_fit_are_named(key: str) -> None:
    shape = shape_of(key)
    student, teacher = pair(shape)
    fewer = (shape[0] - 1, *shape[1:])
    with pytest.raises(ValueError, match=f"{re.escape(str(shape))}.*{re.escape(str(fewer))}"):
        loss_of(key)(student, teacher[1:], **context_of(key, shape))
    if "weight" in loss_of(key).needs:
        with pytest.raises(ValueError, match=re.escape(f"weight must have shape {shape[:1] + shape[2:]}")):
            loss_of(key)(student, teacher, weight=torch.ones(shape[0], 1, 1, 1), **context_of(key, shape))


# --- bad input --------------------------------------------------------------------------------------------------------


@every_case
def test_integers_are_named(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    with pytest.raises(TypeError, match="student must be floating point, got"):
        loss_of(key)(student.long(), teacher, **context_of(key, shape))
    with pytest.raises(TypeError, match="teacher must be floating point, got"):
        loss_of(key)(student, teacher.long(), **context_of(key, shape))


@every_case
def test_nan_where_it_counts_is_not_hidden(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    context = context_of(key, shape)
    (gradient,) = torch.autograd.grad(loss_of(key)(student, teacher, **context), student)
    heaviest = gradient.abs().flatten().argmax()
    for name, value in (("student", student), ("teacher", teacher)):
        bad = value.detach().clone()
        bad.view(-1)[heaviest] = torch.nan
        both = {"student": student, "teacher": teacher, name: bad}
        found = bool(loss_of(key)(**both, **context).isnan())
        if name == "teacher":
            rule(key, "no_teacher", found)
        assert found or name == "teacher"


def mutated(
    student: Tensor, teacher: Tensor, context: dict[str, Any]
) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
    """Calls that go wrong: another width, number of axes or precision, context of another range, type or size."""
    n, channels, *space = student.shape

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=student.dtype)

    wider = drawn(n, channels + 1, *space)
    yield from ((wider, teacher, context), (student, wider, context), (wider, wider, context))
    yield from ((student.float(), teacher.float(), context), (student, teacher.float(), context))
    yield student, teacher[..., :1], context
    for rows, axes in ((min(n, 3), ()), (n, (7,)), (2, (2, 3, 2)), (2, (2, 3, 2, 2))):
        here = {name: value[:rows] if name in OF_SAMPLES else value for name, value in context.items()}
        here |= {"labels": torch.zeros(rows, *axes, dtype=torch.long)} if "labels" in here else {}
        here |= {"edge_index": torch.zeros(2, 4, dtype=torch.long)} if "edge_index" in here else {}
        yield drawn(rows, channels, *axes), drawn(rows, channels, *axes), here
    for name, value in context.items():
        changed: list[Any] = ["x"]
        if isinstance(value, Tensor):
            changed += [value + 99, value.float(), value[:1], value.flatten(), value.int(), value.unsqueeze(-1)]
            changed += [value.tolist(), value + 0j]
        if isinstance(value, list):
            changed += [value[:-1], [one[:0] for one in value], [one[:, :3] for one in value], value[0]]
        yield from ((student, teacher, {**context, name: each}) for each in changed)


@every_case
def test_a_call_that_goes_wrong_is_named_by_us(key: str, shape: tuple[int, ...]) -> None:
    """About 2,000 calls over the registry: each runs, or the innermost frame of its error is ours."""
    ours = [Path(package.__file__).parent for package in (kdlosses, densekd.losses, graphkd.losses)]
    student, teacher = (x.detach() for x in pair(shape))
    for s, t, context in mutated(student, teacher, context_of(key, shape)):
        try:
            value = loss_of(key)(s, t, **context)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
            assert {*ours} & {*place.parents}, f"{place}: {error}"  # noqa: PT017
            assert isinstance(error, TypeError | ValueError)  # noqa: PT017
        else:
            assert value.shape == ()


@every_weighted_case
def test_nan_at_a_masked_position_cannot_matter(key: str, shape: tuple[int, ...]) -> None:
    student, teacher = pair(shape)
    context = context_of(key, shape)
    weight = torch.ones(shape[:1] + shape[2:])
    weight.view(-1)[::5] = 0
    masked = (weight == 0).unsqueeze(1)
    value = loss_of(key)(student, teacher, weight=weight, **context)
    bad = student.detach().masked_fill(masked, torch.nan).requires_grad_()
    again = loss_of(key)(bad, teacher.masked_fill(masked, torch.nan), weight=weight, **context)
    torch.testing.assert_close(again, value)
    again.backward()
    assert bad.grad.isfinite().all()


@every_case
@pytest.mark.parametrize("axis", [0, 1])
def test_a_batch_of_one_and_one_class(key: str, shape: tuple[int, ...], axis: int) -> None:
    """Either there is a value with a gradient, or the error says which loss needs more."""
    context = context_of(key, shape)
    student, teacher = (x.detach().narrow(axis, 0, 1) for x in pair(shape))
    student.requires_grad_()
    options = options_of(key)
    if axis == 0:
        context = {
            name: value[:1]
            if name in OF_SAMPLES
            else torch.zeros(2, 1, dtype=torch.long)
            if name == "edge_index"
            else value
            for name, value in context.items()
        }
    else:
        context |= {name: torch.zeros_like(context[name]) for name in ("labels", "label_map") if name in context}
        one = {"student_channels", "teacher_channels", "channels", "classes", "k"}
        options = {k: 1 if k in one else (0,) if k in ("known", "private") else v for k, v in options.items()}
    loss = kdlosses.build(dict(type=key, **options)).double()
    names = "|".join(each.name for each in loss.modules() if isinstance(each, kdlosses.Loss))
    try:
        value = loss(student, teacher, **context)
    except ValueError as error:
        assert re.search(rf"{names}|label", str(error))  # noqa: PT017
        assert "one" in str(error) or "two" in str(error) or str(tuple(student.shape)) in str(error)  # noqa: PT017
        return
    assert axis == 0 or not loss.categorical
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if axis == 1:
        rule(key, "one_channel", bool(student.grad.abs().max() > 1e-12))


@every_loss
def test_docstring_tells_formula_arguments_paper_and_an_example(key: str) -> None:
    doc = inspect.getdoc(kdlosses.LOSSES[key]) or ""
    for part in ("$$", "Args:", "Paper:", ">>> ", "student:", "teacher:"):
        assert part in doc, f"{key}: no {part!r} in the docstring"


@every_loss
def test_numpy_has_no_say(key: str) -> None:
    """A loss draws nothing at random unless told so: two calls agree, whatever the global generators."""
    shape = shape_of(key)
    first = loss_of(key)(*pair(shape), **context_of(key, shape))
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert loss_of(key)(*pair(shape), **context_of(key, shape)) == first
