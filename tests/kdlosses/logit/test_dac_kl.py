from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax
from torch import nn

from kdlosses import kl
from kdlosses.logit import DACKL


def fixed(low: float, high: float, classes: int, **options: float) -> DACKL:
    """The loss with bounds that do not look at the input, anywhere in [0, 1]."""
    loss = DACKL(classes, width=0.0, **options).double()
    nn.init.zeros_(loss.network[2].weight)
    with torch.no_grad():
        loss.network[2].bias.copy_(torch.tensor([low, high]).logit())
    return loss


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, y, w = rng.normal(size=(9, 6)), 2 * rng.normal(size=(9, 6)), rng.integers(6, size=9), rng.random(9)
    edges = rng.integers(9, size=(2, 30))
    p, q = softmax(t, axis=1), softmax(s, axis=1)
    each = []
    for i in range(9):
        above = np.array([p[i][p[i] > p[i, c]].sum() + p[i, c] / 2 for c in range(6)])
        m = expit((above - 0.2) / 0.05) * expit((0.7 - above) / 0.05)
        m[p[i].argmax()] = m[y[i]] = 1
        each.append(rel_entr(m * p[i] / (m * p[i]).sum(), m * q[i] / (m * q[i]).sum()).sum())
    pairs = np.abs(p[edges[0]] * p[edges[1]] - q[edges[0]] * q[edges[1]]).mean(1)
    expected = np.average(each, weights=w) + 0.3 * np.average(pairs, weights=w[edges[0]] * w[edges[1]])
    s, t, y, w, edges = map(torch.from_numpy, (s, t, y, w, edges))
    value = fixed(0.2, 0.7, 6, eps=0.05, pair_weight=0.3)(s, t, labels=y, edge_index=edges, weight=w)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-6)  # the bounds are kept in float32


def test_pairs_of_a_map_are_the_edges_of_its_grid() -> None:
    s, t, w = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5), torch.rand(2, 3, 5)
    index = torch.arange(30).view(2, 3, 5)
    right, down = (
        torch.stack([a.flatten(), b.flatten()])
        for a, b in ((index[:, :, :-1], index[:, :, 1:]), (index[:, :-1], index[:, 1:]))
    )
    s_nodes, t_nodes = (x.movedim(1, -1).flatten(0, 2) for x in (s, t))
    loss = DACKL(4)
    on_nodes = loss(s_nodes, t_nodes, edge_index=torch.cat([right, down], dim=1), weight=w.flatten())
    torch.testing.assert_close(loss(s, t, weight=w), on_nodes)
    (gradient,) = torch.autograd.grad(loss(s.requires_grad_(), t, weight=(w > 0.5)), s)
    assert (gradient.movedim(1, -1)[w <= 0.5] == 0).all()


def test_open_bounds_are_kl() -> None:
    s, t = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(fixed(0.0, 1.0, 5, eps=1e-4)(s, t), kl(s, t))
    torch.testing.assert_close(DACKL(5, width=1.0, eps=1e-4).double()(s, t), kl(s, t))


def test_an_empty_window_keeps_the_likeliest_class_and_the_label() -> None:
    s, t = torch.randn(1, 5, dtype=torch.float64), torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]]).double()
    closed = fixed(1.0, 1.0, 5, eps=1e-4)
    assert closed(s, t) < 1e-9  # one class is left, and it has all the mass
    torch.testing.assert_close(closed(s, t, labels=torch.tensor([3])), kl(s[:, [0, 3]], t[:, [0, 3]]))


def test_the_network_learns_but_cannot_close_the_window() -> None:
    loss = DACKL(6, width=0.4)
    s, t = torch.randn(32, 6), 2 * torch.randn(32, 6)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    values = []
    for _ in range(25):
        optimiser.zero_grad()
        values.append(loss(s, t))
        values[-1].backward()
        optimiser.step()
    assert values[-1] < 0.9 * values[0]
    low, high = loss.bounds(t.softmax(1).sort(1, descending=True).values)
    assert (high - low).min() >= 0.4 - 1e-6


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="width in"):
        DACKL(5, width=1.5)
