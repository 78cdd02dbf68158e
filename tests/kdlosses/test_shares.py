from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdlosses.shares import dealt, proportions


@pytest.mark.parametrize("concentration", [0.1, 1.0, 5.0])
def test_mean_and_variance_are_those_of_a_dirichlet_distribution(concentration: float) -> None:
    found = proportions(40_000, 4, concentration).numpy()
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found.mean(0), 0.25, atol=0.01)
    np.testing.assert_allclose(found.var(0), 0.25 * 0.75 / (4 * concentration + 1), rtol=0.05)


def test_the_smaller_the_concentration_the_more_lies_with_one_client() -> None:
    largest = [proportions(2000, 5, each).max(1).values.mean().item() for each in (1e-6, 0.1, 1.0, 100.0, math.inf)]
    assert largest == sorted(largest, reverse=True)
    assert largest[0] == pytest.approx(1)  # and no NaN where a gamma variable would be 0
    assert largest[-1] == pytest.approx(0.2)


def test_each_item_goes_to_one_client_and_each_class_by_its_share() -> None:
    labels = torch.randint(6, (500,))
    shared = proportions(6, 4, 0.5, seed=3)
    found = dealt(labels, shared, seed=1)
    assert torch.cat(found).sort().values.tolist() == list(range(500))
    for label, share in enumerate(shared):
        count = torch.tensor([int((labels[each] == label).sum()) for each in found])
        assert (count - share * int((labels == label).sum())).abs().max() <= 1


def test_the_seed_decides() -> None:
    labels = torch.randint(3, (60,))
    one, same = (dealt(labels, proportions(3, 2, 1.0, seed=5), seed=5) for _ in range(2))
    other = dealt(labels, proportions(3, 2, 1.0, seed=5), seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert not all(torch.equal(a, b) for a, b in zip(one, other))


def test_what_cannot_be_shared_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        proportions(3, 0, 1.0)
    for concentration in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="Dirichlet distribution, above 0"):
            proportions(3, 2, concentration)
