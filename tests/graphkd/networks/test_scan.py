"""The selective scan against a loop over steps in NumPy float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphkd.networks import scan
from graphkd.networks.scan import selective_scan


def given(steps: int, batch: int = 3, width: int = 4, states: int = 5) -> list[Tensor]:
    draw = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    u, b, c = normal(batch, steps, width), normal(batch, steps, states), normal(batch, steps, states)
    delta, a = normal(batch, steps, width).exp(), -normal(width, states).exp()
    return [each.requires_grad_() for each in (u, delta, a, b, c, normal(width))]


def in_loops(u: Any, delta: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    y = np.zeros_like(u)
    for row in range(u.shape[0]):
        for channel in range(u.shape[2]):
            h = np.zeros(a.shape[1])
            for t in range(u.shape[1]):
                step = delta[row, t, channel]
                h = np.exp(step * a[channel]) * h + step * b[row, t] * u[row, t, channel]
                y[row, t, channel] = h @ c[row, t] + d[channel] * u[row, t, channel]
    return y


@pytest.mark.parametrize("steps", [1, 2, 9, scan.SHORT, scan.SHORT + 1, 50, 64])
def test_it_is_the_loop_over_steps(steps: int) -> None:
    parts = given(steps)
    expected = in_loops(*(each.detach().numpy() for each in parts))
    found = selective_scan(*parts)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-9, atol=1e-12)
    single = selective_scan(*(each.float() for each in parts))
    np.testing.assert_allclose(single.detach(), expected, rtol=1e-3, atol=1e-4)


def test_chunks_have_the_gradient_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = given(23)
    weight = torch.linspace(-1, 1, 4, dtype=torch.float64)
    stepwise = torch.autograd.grad((selective_scan(*parts) * weight).sum(), parts)
    monkeypatch.setattr(scan, "SHORT", 1)
    for mine, other in zip(torch.autograd.grad((selective_scan(*parts) * weight).sum(), parts), stepwise):
        torch.testing.assert_close(mine, other)


def test_great_steps_forget_and_overflow_nothing() -> None:
    u, delta, a, b, c, d = (each.detach() for each in given(40))
    found = selective_scan(u, 1e4 + delta, a, b, c, d)
    torch.testing.assert_close(found, (1e4 + delta) * u * (b * c).sum(2, keepdim=True) + d * u)


def test_a_fused_kernel_is_handed_what_it_documents() -> None:
    """A kernel with `mamba_ssm`'s arguments, channels before steps, here as loops: the same values."""

    def kernel(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        assert u.shape == delta.shape == (3, 4, 9)
        assert B.shape == C.shape == (3, 5, 9)
        assert all(each.is_contiguous() for each in (u, delta, B, C))
        turned = (u.transpose(1, 2), delta.transpose(1, 2), A, B.transpose(1, 2), C.transpose(1, 2), D)
        return torch.from_numpy(in_loops(*(each.detach().numpy() for each in turned))).transpose(1, 2)

    parts = given(9)
    torch.testing.assert_close(selective_scan(*parts, kernel=kernel), selective_scan(*parts))
