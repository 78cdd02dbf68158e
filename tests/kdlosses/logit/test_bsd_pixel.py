"""Selective distillation of pixels against NumPy: who teaches where, and who does not."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from kdlosses import bsd_pixel

VOID = 255


def maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s, t = (2 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(4, (2, 5, 6), generator=generator)
    labels[:, 0], labels[0, 1, 1] = VOID, -1
    return s.requires_grad_(), t.requires_grad_(), labels


def taught(s: Tensor, t: Tensor, labels: Tensor, **options: bool) -> Tensor:
    """Positions at which the first learns."""
    (gradient,) = torch.autograd.grad(bsd_pixel(s, t, labels, **options), s)
    return gradient.abs().sum(1) > 0


def test_formula() -> None:
    s, t, labels = maps()
    valid = ((labels >= 0) & (labels != VOID)).numpy()
    index = np.where(valid, labels.numpy(), 0)[:, None]
    x, y = s.detach().numpy(), t.detach().numpy()
    mine, its = (-np.take_along_axis(log_softmax(z, 1), index, 1)[:, 0] for z in (x, y))
    for tau in (1.0, 3.0):
        kl = tau**2 * rel_entr(softmax(y / tau, 1), softmax(x / tau, 1)).sum(1)
        expected = kl[valid & (its <= mine)].sum() / valid.sum()
        np.testing.assert_allclose(bsd_pixel(s, t, labels, tau=tau).item(), expected)


def test_each_position_is_taught_in_one_direction() -> None:
    s, t, labels = maps(1)
    forth, back = taught(s, t, labels), taught(t, s, labels, ties=False)
    valid = (labels >= 0) & (labels != VOID)
    assert torch.equal(forth ^ back, valid)
    assert not (forth & back).any()
    assert forth.any()
    assert back.any()


def test_who_is_better_everywhere_learns_nothing() -> None:
    _, t, labels = maps(2)
    better = t + 20 * torch.nn.functional.one_hot(labels.clamp(0, 3), 4).movedim(-1, 1)
    assert bsd_pixel(better, t, labels) == 0
    assert not taught(better, t, labels).any()
    assert taught(t, better, labels).sum() > 40


def test_equally_good_goes_one_way() -> None:
    s = maps(3)[0][:, :3].detach().requires_grad_()
    t, labels = s.detach()[:, [1, 0, 2]].requires_grad_(), torch.full((2, 5, 6), 2)  # both wrong ones change places
    assert taught(s, t, labels).all()
    assert not taught(s, t, labels, ties=False).any()
    assert not taught(t, s, labels, ties=False).any()


def test_without_ties_swapping_the_nets_swaps_the_losses() -> None:
    s, t, labels = maps(4)
    assert bsd_pixel(s, t, labels) == bsd_pixel(s, t, labels, ties=False)
    assert bsd_pixel(t, s, labels) == bsd_pixel(t, s, labels, ties=False)


def test_void_pixels_vote_nowhere() -> None:
    s, t, labels = maps(5)
    void = ((labels < 0) | (labels == VOID)).unsqueeze(1)
    other = torch.where(void, 9 * torch.randn_like(s), s)
    assert bsd_pixel(other, t, labels) == bsd_pixel(s, t, labels)
    nothing = bsd_pixel(s, t, torch.full_like(labels, VOID))
    nothing.backward()
    assert nothing == 0
    assert (s.grad == 0).all()
