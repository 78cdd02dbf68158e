"""Means over images against NumPy; two directions of it are the authors' one with both gradients."""

from __future__ import annotations

import numpy as np
import torch

from densekd.losses import gap_l1


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    s, t = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    return s.requires_grad_(), t.requires_grad_()


def test_formula_and_factor() -> None:
    s, t = maps()
    theirs = np.abs(s.detach().numpy().mean((2, 3)) - t.detach().numpy().mean((2, 3))).sum()
    np.testing.assert_allclose(gap_l1(s, t).item() * 3 * 4, theirs)


def test_both_directions_together_have_the_gradient_of_the_whole() -> None:
    s, t = maps()
    (gap_l1(s, t) + gap_l1(t, s)).backward()
    one, other = (x.detach().clone().requires_grad_() for x in (s, t))
    (one.mean((2, 3)) - other.mean((2, 3))).abs().mean().backward()
    torch.testing.assert_close(s.grad, one.grad)
    torch.testing.assert_close(t.grad, other.grad)


def test_where_in_the_image_does_not_matter() -> None:
    s, t = maps()
    torch.testing.assert_close(gap_l1(s.flip(3), t.roll(2, 2)), gap_l1(s, t))


def test_masked_positions_and_images_leave_the_mean() -> None:
    s, t = maps()
    weight = torch.ones(3, 5, 6)
    weight[:, :, 4:], weight[2] = 0, 0
    torch.testing.assert_close(gap_l1(s, t, weight=weight), gap_l1(s[:2, :, :, :4], t[:2, :, :, :4]))
