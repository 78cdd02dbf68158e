from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from sklearn.preprocessing import normalize

from kdlosses import DMAE

CONTRACT = LossContract(
    "dmae",
    no_fixed_point="a projection that is still to be learned stands between",
    one_channel="the student is projected onto the teacher's channels and normalised there",
)


def identity() -> DMAE:
    loss = DMAE(3, 3)
    torch.nn.init.eye_(loss.projection.weight)
    torch.nn.init.zeros_(loss.projection.bias)
    return loss


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 4)), rng.random(7) > 0.5
    loss = DMAE(3, 4).double()
    a, b = (p.detach().numpy() for p in (loss.projection.weight, loss.projection.bias))
    expected = np.abs(normalize(s @ a.T + b) - normalize(t))[w].mean()
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), expected, rtol=1e-10)


def test_is_zero_at_equality_behind_the_identity() -> None:
    t = torch.randn(2, 3, 4, 4)
    assert identity()(t, t) < 1e-7


def test_scale_of_a_token_does_not_matter() -> None:
    loss, s, t = identity(), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    scale = torch.rand(2, 2, 1, 4, 4) + 0.1
    torch.testing.assert_close(loss(s * scale[0], t * scale[1]), loss(s, t))


def test_zero_token_gets_no_gradient() -> None:
    s = torch.zeros(2, 3, requires_grad=True)
    value = identity()(s, torch.randn(2, 3))
    value.backward()
    assert value > 0
    assert (s.grad == 0).all()
