from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy import stats
from scipy.special import log_softmax, rel_entr, softmax

from kdlosses import build, kl, swing

CONTRACT = LossContract("swing", options=dict(private=(1, 3)), two_classes=dict(private=[1]))


def test_formula_without_noise() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(9, 4)), 2 * rng.normal(size=(9, 4)), rng.random(9)
    tau = 1 + 4 * softmax(t, axis=1)[:, [1, 3]].sum(1, keepdims=True)
    each = tau[:, 0] ** 2 * rel_entr(softmax(t / tau, axis=1), softmax(s / tau, axis=1)).sum(1)
    value = swing(*map(torch.from_numpy, (s, t)), private=[1, 3], tau_max=5.0, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_formula_with_noise() -> None:
    """The noise of torch's generator, drawn once more here, in the same order."""
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(50, 4)), 2 * rng.normal(size=(50, 4))
    torch.manual_seed(3)
    value = swing(*map(torch.from_numpy, (s, t)), private=[0], tau_max=5.0, noise=0.2)
    torch.manual_seed(3)
    laplace = stats.laplace.ppf(torch.rand(50, 4, dtype=torch.float64).numpy())
    privacy = softmax(t, axis=1)[:, :1]
    tau = 1 + 4 * privacy
    p = np.maximum(softmax(t / tau, axis=1) + 0.2 * privacy * laplace, 0)
    p /= p.sum(1, keepdims=True)
    assert (p == 0).any()
    each = tau[:, 0] ** 2 * rel_entr(p, np.exp(log_softmax(s / tau, axis=1))).sum(1)
    np.testing.assert_allclose(value.item(), each.mean(), rtol=1e-9)


def test_without_private_classes_it_is_kl() -> None:
    s, t = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(swing(s, t, tau_min=2.0, noise=0.5), kl(s, t, tau=2.0))


def test_noise_is_reproducible_and_stays_finite() -> None:
    s, t = torch.randn(200, 3, requires_grad=True), torch.randn(200, 3)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(swing(s, t, private=[0, 1, 2], noise=10.0))
    assert values[0] == values[1] != values[2]
    values[0].backward()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("options", [dict(tau_min=0.0), dict(tau_min=9.0), dict(noise=-0.1)])
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(tau_min|noise) .*got"):
        swing(torch.zeros(2, 3), torch.zeros(2, 3), **options)


def test_compilation_keeps_the_noise() -> None:
    loss = build(dict(type="swing", private=[0], noise=0.3))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    s, t = torch.randn(20000, 4), torch.randn(20000, 4)
    first, second = compiled(s, t), compiled(s, t)
    assert first != second
    torch.testing.assert_close(first, loss(s, t), rtol=0.1, atol=0)
