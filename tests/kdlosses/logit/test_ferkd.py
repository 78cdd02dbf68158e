from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy.special import log_softmax, softmax

from kdlosses import ferkd

CONTRACT = LossContract(
    "ferkd",
    options=dict(low=0.4, medium=0.6, high=0.9),
    no_fixed_point="where the teacher is not sure the label teaches",
)


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, y, w = rng.normal(size=(60, 4)), 2 * rng.normal(size=(60, 4)), rng.integers(4, size=60), rng.random(60)
    low, medium, high = 0.45, 0.6, 0.9
    each, cases = [], set()
    for i, p in enumerate(softmax(t, axis=1)):
        sure = p.max()
        case = int(np.searchsorted([low, medium, high], sure))
        target = np.full(4, 0.2 / 3)
        target[y[i]] = 0.8
        each.append(-((target if case == 1 else p) * log_softmax(s[i])).sum())
        w[i] *= case in (1, 2)
        cases.add(case)
    assert cases == {0, 1, 2, 3}
    s, t, y = map(torch.from_numpy, (s, t, y))
    weight = torch.from_numpy(np.where(w > 0, w, 1.0))  # the loss has to find out which do not count
    value = ferkd(s, t, labels=y, low=low, medium=medium, high=high, smoothing=0.2, weight=weight)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_open_thresholds_are_soft_cross_entropy() -> None:
    s, t, y = torch.randn(7, 4), torch.randn(7, 4), torch.randint(4, (7,))
    torch.testing.assert_close(ferkd(s, t, labels=y, low=0.0, medium=0.0), F.cross_entropy(s, t.softmax(1)))


def test_discarded_positions_cannot_matter() -> None:
    t = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.98, 0.01, 0.01]]).log()
    s, y = torch.randn(3, 3), torch.tensor([0, 1, 2])
    value = ferkd(s, t, labels=y, low=0.45, medium=0.45, high=0.95)
    torch.testing.assert_close(value, F.cross_entropy(s[:1], t[:1].exp()))


def test_ignored_labels_do_not_count() -> None:
    s, t, y = torch.randn(4, 4), torch.randn(4, 4), torch.tensor([0, 255, 2, -1])
    torch.testing.assert_close(ferkd(s, t, labels=y), ferkd(s[[0, 2]], t[[0, 2]], labels=y[[0, 2]]))


def test_thresholds_out_of_order_are_named() -> None:
    with pytest.raises(ValueError, match=r"got 0\.5, 0\.3, 1\.0"):
        ferkd(torch.zeros(2, 3), torch.zeros(2, 3), labels=torch.zeros(2, dtype=torch.long), low=0.5)
