from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from kdlosses import LEAF

CONTRACT = LossContract("leaf", no_fixed_point="an output layer that is still to be learned stands between")


def test_formula_and_its_minimum_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(20, 3)), rng.normal(size=(20, 4)), rng.random(20)
    fit = LinearRegression().fit(s, t, sample_weight=w)
    loss = LEAF(3, 4).double()
    with torch.no_grad():
        loss.output.weight.copy_(torch.from_numpy(fit.coef_))
        loss.output.bias.copy_(torch.from_numpy(fit.intercept_))
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), mean_squared_error(t, fit.predict(s), sample_weight=w), rtol=1e-10)
    value.backward()
    assert all(p.grad.abs().max() < 1e-10 for p in loss.parameters())


def test_queries_of_the_student_find_their_document_in_the_index_of_the_teacher() -> None:
    loss, s = LEAF(8, 6), torch.randn(200, 8)
    t = s @ torch.randn(8, 6)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    queries = loss.output(s)
    for width in (6, 4):  # nested: both sides cut and renormalised
        scores = F.normalize(queries[:, :width], dim=1) @ F.normalize(t[:, :width], dim=1).T
        assert (scores.argmax(1) == torch.arange(200)).float().mean() > 0.95
