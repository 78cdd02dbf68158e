from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from kdlosses import js, ssld


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    each = jensenshannon(softmax(t, axis=1), softmax(s, axis=1), axis=1) ** 2
    value = ssld(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_is_the_textbook_js() -> None:
    s, t = 5 * torch.randn(6, 4), 5 * torch.randn(6, 4)
    torch.testing.assert_close(ssld(s, t), js(s, t, beta=0.5))
    torch.testing.assert_close(ssld(s, t), ssld(t, s))
    assert ssld(s, t) < math.log(2)
