from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from kdlosses import js, kl, ssld


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    each = jensenshannon(softmax(t, axis=1), softmax(s, axis=1), axis=1) ** 2
    value = ssld(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_is_the_textbook_js() -> None:
    s, t = 5 * torch.randn(6, 4), 5 * torch.randn(6, 4)
    torch.testing.assert_close(ssld(s, t), js(s, t, beta=0.5))
    torch.testing.assert_close(ssld(s, t), ssld(t, s))
    assert ssld(s, t) < math.log(2)


def test_unlabelled_data_alone_teach_and_a_teacher_of_another_mind_hardly_pulls() -> None:
    torch.manual_seed(0)
    x, teacher, student = torch.randn(300, 5), 3 * torch.randn(5, 4), torch.zeros(5, 4, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        ssld(x[:200] @ student, x[:200] @ teacher).backward()
        optimiser.step()
    right = (x[200:] @ student).argmax(1) == (x[200:] @ teacher).argmax(1)
    assert right.float().mean() > 0.9
    sure = torch.tensor([[10.0, -10.0]], requires_grad=True)
    pulls = [torch.autograd.grad(loss(sure, -sure.detach()), sure)[0].abs().max().item() for loss in (ssld, kl)]
    assert pulls[0] < 1e-3 < 0.9 < pulls[1]
