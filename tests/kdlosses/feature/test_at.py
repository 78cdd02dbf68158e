from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from sklearn.preprocessing import normalize

from kdlosses import at

CONTRACT = LossContract("at", per_sample="an attention map over the positions of one sample")


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_formula_in_both_forms(p: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 7, 4, 5))
    a_s, a_t = (normalize((np.abs(x) ** p).mean(1).reshape(2, -1)) for x in (s, t))
    pair = [torch.from_numpy(x) for x in (s, t)]
    np.testing.assert_allclose(at(*pair, p=p).item(), np.mean((a_s - a_t) ** 2), rtol=1e-10)
    np.testing.assert_allclose(at(*pair, p=p, form="norm").item(), np.linalg.norm(a_s - a_t, axis=1).mean(), rtol=1e-10)


def test_rotated_and_rescaled_channels_change_nothing() -> None:
    s, t = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    turned = torch.einsum("dc,nchw->ndhw", rotation, 5 * s)
    torch.testing.assert_close(at(turned, t), at(s, t))


def test_range() -> None:
    assert 0 <= at(torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)) <= 2 / 20


def test_one_position_a_sample_raises() -> None:
    with pytest.raises(ValueError, match="more than one position"):
        at(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1))


def test_unknown_form_raises() -> None:
    with pytest.raises(ValueError, match="'squared' or 'norm'"):
        at(torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2), form="l2")


def test_zero_features_are_finite() -> None:
    s = torch.zeros(2, 3, 4, 4, requires_grad=True)
    at(s, torch.randn(2, 3, 4, 4)).backward()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_a_sample_without_a_counted_position_is_as_if_it_were_not_there(form: Any) -> None:
    s, t = torch.randn(3, 4, 2, 3, dtype=torch.float64), torch.randn(3, 5, 2, 3, dtype=torch.float64)
    weight = torch.rand(3, 2, 3, dtype=torch.float64)
    weight[1] = 0
    kept = [0, 2]
    value = at(s, t, form=form, weight=weight)
    torch.testing.assert_close(value, at(s[kept], t[kept], form=form, weight=weight[kept]))
    assert value > 0
