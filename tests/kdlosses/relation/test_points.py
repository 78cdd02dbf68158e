from __future__ import annotations

import pytest
import torch

from kdlosses.relation.points import centred_points, points


def test_views_of_maps() -> None:
    s, t = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 4, 5)
    for view, sets, n, width in [("batch", 1, 40, 1), ("sample", 2, 20, 1), ("pooled", 1, 2, 1), ("flat", 1, 2, 20)]:
        a, b, w = points(s, t, view=view)  # type: ignore[arg-type]
        assert a.shape == (sets, n, 3 * width)
        assert b.shape == (sets, n, 7 * width)
        assert w.shape == (sets, n)
        assert (w == 1).all()
    torch.testing.assert_close(points(s, t)[0][0, 27], s[1, :, 1, 2])
    torch.testing.assert_close(points(s, t, view="sample")[1][1, 7], t[1, :, 1, 2])
    torch.testing.assert_close(points(s, t, view="pooled")[0][0], s.mean((2, 3)))


def test_weighted_pool_and_flat() -> None:
    s, weight = torch.randn(3, 2, 4), torch.rand(3, 4)
    weight[2] = 0
    pooled, _, kept = points(s, s, weight, view="pooled")
    torch.testing.assert_close(pooled[0, 0], (s[0] * weight[0]).sum(1) / weight[0].sum())
    assert (pooled[0, 2] == 0).all()
    assert kept.tolist() == [[1.0, 1.0, 0.0]]
    flat, _, kept = points(s, s, weight > 0.5, view="flat")
    torch.testing.assert_close(flat[0], (s * (weight > 0.5).unsqueeze(1)).flatten(1))
    assert kept.tolist() == [(weight > 0.5).any(1).float().tolist()]


def test_graphs_are_sets() -> None:
    s, graph = torch.randn(5, 3), torch.tensor([1, 0, 1, 1, 0])
    a, _, w = points(s, s, batch=graph, view="sample")
    torch.testing.assert_close(a[1, :3], s[[0, 2, 3]])
    assert w.tolist() == [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    pooled, _, _ = points(s, s, batch=graph, view="pooled")
    torch.testing.assert_close(pooled[0], torch.stack([s[[1, 4]].mean(0), s[[0, 2, 3]].mean(0)]))


def test_draw_takes_the_same_points_of_both_sides_and_none_that_are_masked() -> None:
    s, weight = torch.randn(50, 3), (torch.arange(50) % 2).float()
    a, b, w = points(s, 2 * s, weight, draw=10)
    torch.testing.assert_close(b, 2 * a)
    assert w.shape == (1, 10)
    assert (w == 1).all()
    drawn = (a[0].unsqueeze(1) == s).all(2).nonzero()[:, 1]
    assert len(drawn.unique()) == 10
    assert (drawn % 2 == 1).all()
    assert points(s, s, weight, draw=30)[2].sum() == 25  # fewer than asked for: the rest has weight 0


def test_draw_depends_on_the_generator() -> None:
    s = torch.randn(50, 3)
    assert not torch.equal(points(s, s, draw=10)[0], points(s, s, draw=10)[0])


def test_masked_values_may_be_anything() -> None:
    s = torch.tensor([[1.0], [float("nan")], [3.0]])
    a, b, w = points(s, s, torch.tensor([True, False, True]))
    assert a.flatten().tolist() == b.flatten().tolist() == [1.0, 0.0, 3.0]
    assert centred_points(a, w).flatten().tolist() == [-1.0, 0.0, 1.0]


def test_unknown_view_raises() -> None:
    with pytest.raises(ValueError, match="'batch', 'sample', 'pooled' or 'flat', got 'image'"):
        points(torch.randn(2, 3), torch.randn(2, 3), view="image")  # type: ignore[arg-type]
