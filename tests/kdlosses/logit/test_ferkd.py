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


def test_without_a_label_a_soft_one_counts_and_a_true_one_does_not() -> None:
    t = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8], [0.5, 0.5]]).log()  # soft, true, soft, true
    s, y = torch.randn(4, 2), torch.tensor([255, -1, 1, 0])
    value = ferkd(s, t, labels=y, medium=0.7)
    torch.testing.assert_close(value, ferkd(s[[0, 2, 3]], t[[0, 2, 3]], labels=torch.tensor([0, 1, 0]), medium=0.7))


def test_hard_regions_are_mined_and_calibrated_as_a_whole() -> None:
    """A crop of which the teacher is unsure on the whole takes its labels, at each of its pixels, sure ones too."""
    rng = np.random.default_rng(0)
    s, t, y, w = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 3, 4, 6)), rng.integers(3, size=(2, 4, 6)), 0
    t[0, :, :2, :3] *= 0.2  # an unsure crop
    t[0, :, 0, 0] = 9, 0, 0  # with a sure pixel in it
    t[1] *= 5
    w = rng.random((2, 4, 6))
    p, log_q = softmax(t, axis=1), log_softmax(s, axis=1)
    total, mass, cases = 0.0, 0.0, set()
    for n in range(2):
        for rows in (slice(0, 2), slice(2, 4)):
            for columns in (slice(0, 3), slice(3, 6)):
                sure = np.average(p[n].max(0)[rows, columns], weights=w[n, rows, columns])
                case = int(np.searchsorted([0.4, 0.6, 0.85], sure))
                cases.add(case)
                for i in range(rows.start, rows.stop):
                    for j in range(columns.start, columns.stop):
                        target = np.where(np.arange(3) == y[n, i, j], 0.9, 0.05) if case == 1 else p[n, :, i, j]
                        counts = w[n, i, j] * (case in (1, 2))
                        total, mass = total - counts * (target * log_q[n, :, i, j]).sum(), mass + counts
    assert cases >= {1, 2}
    s, t, y, w = map(torch.from_numpy, (s, t, y, w))
    value = ferkd(s, t, labels=y, low=0.4, medium=0.6, high=0.85, regions=2, weight=w)
    np.testing.assert_allclose(value.item(), total / mass, rtol=1e-9)
    assert value != ferkd(s, t, labels=y, low=0.4, medium=0.6, high=0.85, weight=w)


def test_thresholds_out_of_order_are_named() -> None:
    with pytest.raises(ValueError, match=r"got 0\.5, 0\.3, 1\.0"):
        ferkd(torch.zeros(2, 3), torch.zeros(2, 3), labels=torch.zeros(2, dtype=torch.long), low=0.5)


def test_a_smoothing_that_is_no_probability_is_named() -> None:
    with pytest.raises(ValueError, match="smoothing is a probability, from 0 to less than 1, got 2"):
        ferkd(torch.zeros(2, 3), torch.zeros(2, 3), labels=torch.zeros(2, dtype=torch.long), smoothing=2)
