from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import kdlosses
from kdlosses import Balance


def run(policy: kdlosses.Loss, students: list[torch.Tensor], t: torch.Tensor) -> list[float]:
    return [policy(s, t).item() for s in students]


def test_weights_follow_the_formula_and_sum_to_one() -> None:
    t = torch.randn(9, 3)
    students = [t + scale * torch.randn(9, 3) for scale in (1.0, 0.8, 0.3, 0.6)]
    policy = kdlosses.build(dict(type="balance", losses=["kl", "mse", "rkl"], rate=0.3))
    a, first = np.full(3, 1 / 3), None
    for s in students:
        values = np.array([kdlosses.build(name)(s, t).item() for name in ("kl", "mse", "rkl")])
        assert policy(s, t).item() == pytest.approx(float(a @ values), rel=1e-5)
        first = values if first is None else first
        pace = values / first
        a = a - 0.3 * (a - pace / pace.sum())
        np.testing.assert_allclose(policy.loss.weights.numpy(), a, rtol=1e-5)
        assert policy.loss.weights.sum().item() == pytest.approx(1)


def test_losses_that_fall_at_the_same_pace_stay_or_become_equal() -> None:
    t, s = torch.randn(9, 3), torch.randn(9, 3)
    policy = kdlosses.build(dict(type="balance", losses=["kl", "mse"], rate=0.2))
    policy(s, t)
    policy.loss.weights.copy_(torch.tensor([0.9, 0.1]))
    run(policy, [s] * 60, t)
    torch.testing.assert_close(policy.loss.weights, torch.tensor([0.5, 0.5]), atol=1e-3, rtol=0)


def test_only_training_on_some_position_moves_it() -> None:
    t, s = torch.randn(9, 3), torch.randn(9, 3)
    policy = kdlosses.build("balance")
    policy(s, t, weight=torch.zeros(9))
    assert policy.loss.first.isnan().all()
    policy.eval()
    policy(s, t)
    assert policy.loss.first.isnan().all()
    policy.train()
    policy(s, t)
    assert policy.loss.first.isfinite().all()


def test_a_resumed_run_goes_on() -> None:
    t = torch.randn(9, 3)
    students = [t + scale * torch.randn(9, 3) for scale in (1.0, 0.5, 0.9, 0.2)]
    whole = kdlosses.build("balance")
    expected = run(whole, students, t)
    half = kdlosses.build("balance")
    run(half, students[:2], t)
    resumed = kdlosses.build("balance")
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    assert run(resumed, students[2:], t) == expected[2:]


def test_a_loss_that_starts_at_zero_is_no_division_by_zero() -> None:
    t = torch.randn(9, 3)
    policy = kdlosses.build("balance")
    run(policy, [t, t + 0.5, torch.randn(9, 3)], t)
    assert policy.loss.weights.isfinite().all()
    assert policy.loss.weights.sum().item() == pytest.approx(1)


def test_nothing_to_balance_is_named() -> None:
    with pytest.raises(ValueError, match="losses is empty"):
        Balance(losses=[])
