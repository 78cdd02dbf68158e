from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdlosses.auto_weight import AutoWeight, Pull, Task


def test_the_weight_is_the_ratio_of_norms_that_numpy_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 4, generator=generator, requires_grad=True) for _ in range(2)]
    goals = [torch.randn(2, 3, 4, generator=generator) for _ in range(2)]
    task = sum((m**3).sum() for m in maps)
    term = sum(((m - g) ** 2).mean() for m, g in zip(maps, goals))
    pull = Task(task).pull(term, "maps", maps)
    assert pull is not None
    mine = np.concatenate([3 * m.detach().double().numpy().ravel() ** 2 for m in maps])
    its = np.concatenate([2 * (m - g).detach().double().numpy().ravel() / 24 for m, g in zip(maps, goals)])
    norms = np.linalg.norm(mine), np.linalg.norm(its)
    np.testing.assert_allclose([pull.task, pull.term], norms, rtol=1e-5)
    np.testing.assert_allclose(pull.cosine, mine @ its / norms[0] / norms[1], rtol=1e-4)
    auto = AutoWeight(ratio=0.25)
    auto.measure(pull)
    np.testing.assert_allclose(auto.weight, 0.25 * norms[0] / norms[1], rtol=1e-5)
    (task + auto.weight * term).backward()  # the graph is still there


def test_the_weight_is_the_median_so_far_and_then_stays() -> None:
    auto = AutoWeight(ratio=2.0, steps=3)
    assert auto.weight == 0
    seen: list[float] = []
    for ratio in (8.0, 1.0, 3.0):
        assert auto.measuring
        auto.measure(_pull(ratio))
        seen.append(ratio)
        assert auto.weight == 2 * sorted(seen)[(len(seen) - 1) // 2]
    assert not auto.measuring
    assert auto.weight == 2 * statistics.median(seen)


@pytest.mark.parametrize("pull", [None, Pull(*torch.tensor([1.0, 0.0, 0.0])), Pull(*torch.tensor([0.0, 1.0, 0.0]))])
def test_a_step_without_a_gradient_does_not_count(pull: Any) -> None:
    auto = AutoWeight(steps=2)
    auto.measure(_pull(5.0))
    auto.measure(pull)
    auto.measure(_pull(math.inf))
    assert auto.measuring
    assert auto.weight == 5


def test_a_resumed_weight_goes_on() -> None:
    first, second = AutoWeight(steps=2), AutoWeight(steps=2)
    first.measure(_pull(7.0))
    second.load_state_dict(first.state_dict())
    assert second.weight == 7
    assert second.measuring


def test_parameters_stand_in_for_a_tap_beside_the_task() -> None:
    torch.manual_seed(0)
    body, head, side = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 5)
    shared = body(torch.randn(6, 3))
    beside = side(shared)
    task, term = head(shared).square().sum(), beside.square().sum()
    pull = Task(task, [*body.parameters(), *head.parameters(), *side.parameters()]).pull(term, "side", [beside])
    assert pull is not None
    both = list(body.parameters())  # alone reached by both
    for loss, found in ((task, pull.task), (term, pull.term)):
        expected = torch.cat([each.flatten() for each in torch.autograd.grad(loss, both, retain_graph=True)]).norm()
        torch.testing.assert_close(found, expected)
    assert Task(task, list(head.parameters())).pull(term, "side", [beside]) is None


def test_parameters_stand_in_where_nothing_is_tapped() -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    pull = Task((x * x).sum(), [x]).pull(2 * x.sum(), "", [])
    assert pull is not None
    np.testing.assert_allclose(pull, [10, 8**0.5, 28 / (10 * 8**0.5)], rtol=1e-6)


def test_gradients_of_half_precision_do_not_underflow() -> None:
    s = torch.ones(4, dtype=torch.float16, requires_grad=True)
    pull = Task(1e-7 * s.float().sum()).pull(1e-8 * s.float().sum(), "s", [s])
    assert pull is not None
    torch.testing.assert_close(pull.task / pull.term, torch.tensor(10.0), rtol=0.05, atol=0)


def test_gradients_of_half_precision_do_not_overflow() -> None:
    s = torch.ones(4, dtype=torch.float16, requires_grad=True)
    pull = Task(10 * s.float().sum()).pull(5 * s.float().sum(), "s", [s])
    assert pull is not None
    torch.testing.assert_close(torch.stack(pull), torch.tensor([20.0, 10.0, 1.0]))


def test_gradients_through_layers_of_half_precision_do_not_underflow() -> None:
    s = torch.ones(2, 4, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        y = nn.functional.linear(s, torch.ones(3, 4)).float()
        pull = Task(1e-9 * y.sum()).pull(1e-10 * y.sum(), "s", [s])
    assert pull is not None
    torch.testing.assert_close(pull.task / pull.term, torch.tensor(10.0), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (dict(type="auto", ratio=0), ValueError, "ratio must be a positive number"),
        (dict(type="auto", steps=0.5), ValueError, "steps must be an integer"),
        (dict(type="auto", step=5), TypeError, "did you mean 'steps'"),
        (dict(type="automatic"), ValueError, "a weight is a number, 'auto'"),
    ],
)
def test_a_wrong_weight_is_named(weight: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        AutoWeight.parse(weight)


def test_an_array_is_no_weight_to_be_measured() -> None:
    assert AutoWeight.parse(np.ones(2)) is None


def _pull(ratio: float) -> Pull:
    return Pull(torch.tensor(ratio), torch.tensor(1.0), torch.tensor(0.0))
