"""The selective scan of state space models: a linear recurrence whose coefficients depend on its input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SHORT = 32
"""Up to so many steps are taken one by one; more in chunks, which are scanned beside each other."""


def selective_scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, kernel: Callable[..., Any] | None = None
) -> Tensor:
    r"""The outputs of a selective state space model, `(B, T, D)`.

    $$ h_t = \exp(\Delta_t A) \odot h_{t-1} + \Delta_t u_t B_t, \qquad y_t = h_t C_t + D \odot u_t, \qquad h_0 = 0, $$

    for each channel with n states of its own. Time and memory grow with T, not with its square.

    Where the package `mamba_ssm` is installed and the tensors are on a GPU, its fused kernel is used: the same values,
    and no states in memory. Nothing needs it.

    Args:
        u: inputs `(B, T, D)`.
        delta: step sizes $\Delta$ `(B, T, D)`, positive.
        a: A `(D, n)`, negative.
        b: how an input enters the states, `(B, T, n)`.
        c: how states leave, `(B, T, n)`.
        d: what of an input passes by, `(D,)`.
        kernel: a function with the arguments of `mamba_ssm`'s `selective_scan_fn`; found if not given.

    Paper: Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023. The step of B is Euler's,
    as in its code.

    >>> ones = torch.ones(1, 3, 1)
    >>> selective_scan(ones, ones, -torch.ones(1, 1), ones, ones, torch.zeros(1)).flatten()  # 1, 1 + 1/e, ...
    tensor([1.0000, 1.3679, 1.5032])
    """
    kernel = kernel or (_fused() if u.is_cuda else None)
    if kernel is not None:
        turned = [each.transpose(1, 2).contiguous() for each in (u, delta, b, c)]
        return kernel(turned[0], turned[1], a, turned[2], turned[3], d).transpose(1, 2)
    if u.shape[1] <= SHORT:
        return _in_steps(u, delta, a, b, c) + d * u
    return _in_chunks(u, delta, a, b, c) + d * u


@functools.cache
def _fused() -> Callable[..., Any] | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


def _in_steps(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h, found = u.new_zeros(len(u), *a.shape), []
    enters = delta * u
    for t in range(u.shape[1]):
        h = (delta[:, t, :, None] * a).exp() * h + enters[:, t, :, None] * b[:, t, None]
        found.append((h @ c[:, t, :, None]).squeeze(2))
    return torch.stack(found, 1)


def _in_chunks(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Each chunk from 0, all side by side; then what is left of the state before a chunk is added in it."""
    steps = u.shape[1]
    size = math.isqrt(steps - 1) + 1
    missing = -steps % size
    padded = (F.pad(each, (0, 0, 0, missing)).unflatten(1, (-1, size)) for each in (delta * u, delta, b, c))
    enters, delta, b, c = padded  # (B, G, S, .), with steps of size 0 at the end
    h = enters.new_zeros(*enters.shape[:2], *a.shape)
    left = torch.ones_like(h)
    states, lefts = [], []
    for t in range(size):
        decay = (delta[:, :, t, :, None] * a).exp()
        h = decay * h + enters[:, :, t, :, None] * b[:, :, t, None]
        left = decay * left
        states.append(h)
        lefts.append(left)
    before, carried = [torch.zeros_like(h[:, 0])], h.unbind(1)
    for chunk, kept in zip(carried[:-1], left.unbind(1)):
        before.append(kept * before[-1] + chunk)
    start = torch.stack(before, 1)
    found = [
        ((state + kept * start) @ c[:, :, t, :, None]).squeeze(3) for t, (state, kept) in enumerate(zip(states, lefts))
    ]
    return torch.stack(found, 2).flatten(1, 2)[:, :steps]
