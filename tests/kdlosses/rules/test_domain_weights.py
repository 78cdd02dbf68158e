from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlosses.rules import domain_weights

STUDENT, TEACHER = torch.tensor([2.0, 1.0, 0.5, 3.0]), torch.tensor([1.0, 0.25, 0.75, 3.0])


def test_formula() -> None:
    before = torch.tensor([0.1, 0.2, 0.3, 0.4])
    gap = np.maximum(STUDENT.numpy() - TEACHER.numpy(), 0)
    expected = 0.7 * before.numpy() + 0.3 * (0.8 * gap / gap.sum() + 0.2 / 4)
    found = domain_weights(STUDENT, TEACHER, before, smoothing=0.7, floor=0.2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert found.sum().item() == pytest.approx(1)


def test_only_the_gap_counts() -> None:
    torch.testing.assert_close(domain_weights(STUDENT, TEACHER), domain_weights(3 * STUDENT + 1, 3 * TEACHER + 1))


def test_no_gap_anywhere_is_no_preference() -> None:
    torch.testing.assert_close(domain_weights(TEACHER, TEACHER), torch.full((4,), 0.25))
    torch.testing.assert_close(domain_weights(TEACHER - 1, TEACHER), torch.full((4,), 0.25))


def test_smoothing_goes_to_the_same_weights_and_takes_its_time() -> None:
    weights, last = None, domain_weights(STUDENT, TEACHER, smoothing=0.0)
    distance = []
    for _ in range(12):
        weights = domain_weights(STUDENT, TEACHER, weights, smoothing=0.5)
        distance.append((weights - last).abs().sum().item())
    np.testing.assert_allclose(np.array(distance[1:]) / distance[:-1], 0.5, atol=0.01)


def test_the_floor_keeps_every_domain_in_play() -> None:
    found = domain_weights(STUDENT, TEACHER, smoothing=0.0, floor=0.2)
    assert found.min().item() == pytest.approx(0.05)
    assert domain_weights(STUDENT, TEACHER, smoothing=0.0, floor=1.0).tolist() == [0.25] * 4


def test_options_and_losses_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        domain_weights(STUDENT, TEACHER, smoothing=1.0)
    with pytest.raises(ValueError, match="floor"):
        domain_weights(STUDENT, TEACHER, floor=-0.1)
    with pytest.raises(ValueError, match="must be finite"):
        domain_weights(STUDENT * float("nan"), TEACHER)
