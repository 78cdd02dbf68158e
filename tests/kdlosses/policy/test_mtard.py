from __future__ import annotations

import pytest
import torch
from scipy.stats import entropy

import kdlosses


def test_one_teacher_is_the_loss_inside() -> None:
    s, t = torch.randn(6, 3, 2), torch.randn(6, 3, 2)
    loss = kdlosses.build(dict(type="mtard", loss=dict(type="kl", tau=2.0)))
    for _ in range(3):
        torch.testing.assert_close(loss(s, t), kdlosses.kl(s, t, tau=2.0))


def test_each_teacher_teaches_its_own_output_at_its_own_temperature() -> None:
    s, t = torch.randn(6, 6), torch.randn(6, 6)
    loss = kdlosses.build(dict(type="mtard", teachers=2))
    loss.loss.tau.copy_(torch.tensor([1.0, 4.0]))
    loss.loss.weights.copy_(torch.tensor([0.3, 0.7]))
    expected = 0.3 * kdlosses.kl(s[:, :3], t[:, :3]) + 0.7 * kdlosses.kl(s[:, 3:], t[:, 3:] / 4)
    torch.testing.assert_close(loss(s, t), expected)
    shared = kdlosses.build(dict(type="mtard", teachers=2))
    halves = (kdlosses.kl(s[:, :3], t[:, :3]) + kdlosses.kl(s[:, :3], t[:, 3:])) / 2
    torch.testing.assert_close(shared(s[:, :3], t), halves)


def test_temperatures_move_to_equal_entropy_within_their_bounds() -> None:
    """A temperature never falls below 1: the surer teacher is warmed up until it is as unsure."""
    sure, unsure = 6 * torch.randn(200, 4), torch.randn(200, 4)
    s, t = torch.randn(200, 4), torch.cat([sure, unsure], 1)
    loss = kdlosses.build(dict(type="mtard", teachers=2, tau_rate=0.1))

    def entropies() -> list[float]:
        parts = (t[:, :4] / loss.loss.tau[0], t[:, 4:] / loss.loss.tau[1])
        return [entropy(part.softmax(1).numpy(), axis=1).mean() for part in parts]

    start = entropies()
    for _ in range(60):
        loss(s, t)
    one, other = entropies()
    assert start[1] - start[0] > 0.5
    assert abs(one - other) < 0.05
    assert loss.loss.tau[1] == 1
    assert 1 < loss.loss.tau[0] < 10
    for _ in range(300):
        loss(s, torch.cat([100 * sure, 0 * unsure], 1))
    assert loss.loss.tau.tolist() == [10.0, 1.0]


def test_the_teacher_that_is_learnt_slower_gains_weight() -> None:
    t = torch.randn(6, 6)
    loss = kdlosses.build(dict(type="mtard", teachers=2, rate=0.5))
    loss(torch.zeros(6, 6), t)
    loss(torch.cat([t[:, :3], torch.zeros(6, 3)], 1), t)  # the first is learnt
    assert loss.loss.weights.tolist() == pytest.approx([0.25, 0.75], abs=1e-5)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="5 channels must be a multiple of 2 teachers"):
        kdlosses.build(dict(type="mtard", teachers=2))(torch.zeros(2, 5), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="the student has 5 channels; expected 3, or 6"):
        kdlosses.build(dict(type="mtard", teachers=2))(torch.zeros(2, 5), torch.zeros(2, 6))
