from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax

from kdlosses import cwd

CONTRACT = LossContract(
    "cwd", per_sample="a softmax over the positions of one sample: a map is a sample, and so is a graph"
)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 4, 5)) * 3, rng.normal(size=(2, 3, 4, 5)) * 3
    each = [rel_entr(softmax(t[n, c].ravel() / tau), softmax(s[n, c].ravel() / tau)).sum() for n, c in np.ndindex(2, 3)]
    value = cwd(*map(torch.from_numpy, (s, t)), tau=tau)
    np.testing.assert_allclose(value.item(), tau**2 * np.mean(each), rtol=1e-10)


def test_masked_positions_leave_the_softmax() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 10)), rng.normal(size=(2, 3, 10))
    keep = [np.arange(10) < 6, np.arange(10) % 2 == 0]
    each = [rel_entr(softmax(t[n, c, keep[n]]), softmax(s[n, c, keep[n]])).sum() for n, c in np.ndindex(2, 3)]
    value = cwd(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(np.stack(keep)))
    np.testing.assert_allclose(value.item(), np.mean(each), rtol=1e-10)


def test_constant_of_a_channel_changes_nothing() -> None:
    s, t = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(cwd(s + torch.randn(2, 3, 1, 1), t + torch.randn(2, 3, 1, 1)), cwd(s, t))


def test_single_position_is_zero() -> None:
    assert cwd(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)) == 0


def test_graphs_of_a_batch_are_samples() -> None:
    s, t = torch.randn(9, 3), torch.randn(9, 3)
    batch = torch.tensor([4, 4, 1, 1, 1, 4, 1, 4, 9])
    weight = torch.rand(9)
    each = [cwd(s[batch == g], t[batch == g], weight=weight[batch == g]) for g in (1, 4, 9)]
    torch.testing.assert_close(cwd(s, t, batch=batch, weight=weight), torch.stack(each).mean())
