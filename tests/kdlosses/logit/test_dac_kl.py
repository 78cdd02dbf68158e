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
    loss = DACKL(classes, **options).double()
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
        inside, rest = (m * rel_entr(p[i], q[i])).sum(), ((1 - m) @ p[i], (1 - m) @ q[i])
        each.append(inside + rel_entr(*rest))
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


def test_an_empty_window_leaves_the_likeliest_class_the_label_and_the_rest() -> None:
    s, t = torch.randn(1, 5, dtype=torch.float64), torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]]).double()
    closed = fixed(1.0, 1.0, 5, eps=1e-4)

    def merged(kept: list[int]) -> torch.Tensor:
        p, q = (x.softmax(1)[0] for x in (t, s))
        p, q = (torch.cat([x[kept], 1 - x[kept].sum(0, keepdim=True)]) for x in (p, q))
        return (p * (p / q).log()).sum()

    torch.testing.assert_close(closed(s, t), merged([0]))
    torch.testing.assert_close(closed(s, t, labels=torch.tensor([3])), merged([0, 3]))


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.3, 0.6), (0.999, 1.0)])
def test_no_window_hides_who_is_likeliest(low: float, high: float) -> None:
    """Between the divergence of (likeliest, others) and `kl`, whatever the bounds: classes are merged, not dropped."""
    s, t = 3 * torch.randn(40, 6, dtype=torch.float64), 3 * torch.randn(40, 6, dtype=torch.float64)
    p, q = (x.softmax(1).gather(1, t.argmax(1, keepdim=True))[:, 0] for x in (t, s))
    least = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    value = fixed(low, high, 6)(s, t)
    assert least - 1e-9 <= value <= kl(s, t) + 1e-9
    assert least > 0.5


def trained(s: torch.Tensor, t: torch.Tensor, steps: int, **options: float) -> tuple[DACKL, list[float]]:
    torch.manual_seed(1)
    loss = DACKL(t.shape[1], pair_weight=0.0, **options)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.01)
    values = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(s, t)
        value.backward()
        optimiser.step()
        values.append(value.item())
    return loss, values


def test_against_a_frozen_student_the_loss_does_not_fall_by_narrowing() -> None:
    torch.manual_seed(0)
    t, frozen = 2 * torch.randn(256, 11), torch.randn(256, 11)
    loss, values = trained(frozen, t, 600)
    assert min(values) > 0.99 * values[0]
    assert values[0] > 0.98 * kl(frozen, t)
    agreeing, _ = trained(t + 0.1 * torch.randn_like(t), t, 600)
    for one, other in zip(loss.parameters(), agreeing.parameters()):  # the student has no say in what is hidden
        assert one.equal(other)


def test_the_network_finds_the_dense_classes_of_the_teacher() -> None:
    """Those denser than a share of the uniform distribution are inside, the rest is not: few of a sure teacher's."""
    torch.manual_seed(0)
    t = torch.randn(256, 11) * torch.tensor([0.5, 6.0]).repeat_interleave(128)[:, None]
    loss, _ = trained(torch.zeros(256, 11), t, 300, density=0.3, eps=0.005)
    p = t.softmax(1).sort(1, descending=True).values
    low, high = loss.bounds(p)
    place = p.cumsum(1) - p / 2
    inside = ((place > low) & (place < high)) | (torch.arange(11) == 0)
    dense = p > 0.3 / 11
    assert (inside == dense).float().mean() > 0.9
    assert inside[:128].sum(1).float().mean() > 9
    assert inside[128:].sum(1).float().mean() < 4


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="eps > 0"):
        DACKL(5, eps=0.0)


def test_a_position_without_a_label_counts_as_the_teacher_sees_it() -> None:
    """Of a graph few nodes have a label: the others are distilled, too, by themselves and in pairs."""
    s, t = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.randn(6, 5, dtype=torch.float64)
    edges, none = torch.tensor([[0, 3], [4, 5]]), torch.tensor([-1, 255, -1, -1, 255, -1])
    loss = fixed(0.3, 0.6, 5)
    value = loss(s, t, labels=none, edge_index=edges)
    torch.testing.assert_close(value, loss(s, t, edge_index=edges))
    (gradient,) = torch.autograd.grad(value, s)
    assert (gradient.abs().sum(1) > 1e-6).all()
    wrong = t.argmin(1)
    some = wrong.where(torch.arange(6) < 3, -1)
    loss.pair_weight = 0.0
    each = [
        loss(s, t, labels=labels, weight=part) / 2
        for labels, part in ((wrong, torch.arange(6) < 3), (none, torch.arange(6) >= 3))
    ]
    torch.testing.assert_close(loss(s, t, labels=some), sum(each))
