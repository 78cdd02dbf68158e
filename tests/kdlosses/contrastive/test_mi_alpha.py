from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import MIAlpha
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "mi_alpha",
    options=dict(hidden_channels=8, channels=4),
    no_fixed_point="a critic that is still to be learned stands between",
    no_copies="a point is left out of its own baseline, with all its copies",
    over_pairs=True,
)


def build(alpha_logit: float = 0.3) -> MIAlpha:
    return MIAlpha(3, 4, alpha_logit=alpha_logit, hidden_channels=8, channels=5).double()


def reference(loss: MIAlpha, s: np.ndarray, t: np.ndarray, alpha: float) -> float:
    def run(net: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
        (a, b, c, d) = (p.detach().numpy() for p in net.parameters())
        return np.maximum(x @ a.T + b, 0) @ c.T + d

    n = len(s)
    score = run(loss.student_critic, s) @ run(loss.teacher_critic, t).T
    a = run(loss.baseline, s)[:, 0]
    b = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        b[i, j] = np.log(alpha * np.exp(np.delete(score[i], j)).mean() + (1 - alpha) * np.exp(a[i]))
    off = ~np.eye(n, dtype=bool)
    joint, marginal = score.diagonal()[:, None] - b, np.exp(score - b.diagonal()[:, None])
    return -(1 + joint[off].mean() - marginal[off].mean())


@pytest.mark.parametrize("alpha_logit", [-2.0, 0.3, math.inf])
def test_formula(alpha_logit: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(7, 3)), rng.normal(size=(7, 4))
    loss, alpha = build(alpha_logit), 1 / (1 + math.exp(-alpha_logit))
    value = loss(*map(torch.from_numpy, (s, t))).item()
    np.testing.assert_allclose(value, reference(loss, s, t, alpha), rtol=1e-9)


def test_capped_by_the_log_of_n_minus_1_at_alpha_1() -> None:
    loss, x = MIAlpha(4, 4, alpha_logit=math.inf, channels=8, hidden_channels=8), torch.eye(4)
    with torch.no_grad():
        for critic in (loss.student_critic, loss.teacher_critic):  # scores 30 for pairs, 0 for others
            for layer in (critic[0], critic[2]):
                torch.nn.init.eye_(layer.weight).mul_(30**0.25)
                layer.bias.zero_()
    assert -loss(x, x) <= math.log(3) + 1e-4
    assert -loss(x, x) > math.log(3) - 0.2


def test_critic_finds_dependence_and_none_where_there_is_none() -> None:
    loss, s = build(2.0), torch.randn(256, 3, dtype=torch.float64)
    t = torch.cat([s, s[:, :1]], dim=1) + 0.1 * torch.randn(256, 4)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    assert -loss(s, t) > 0.5
    assert -loss(s, torch.randn(256, 4).double()) < 0


def test_large_scores_stay_finite() -> None:
    s, t = torch.randn(9, 3).double().requires_grad_(), torch.randn(9, 4).double()
    loss = build(0.0)
    loss.alpha_logit = math.inf
    with torch.no_grad():
        loss.teacher_critic[2].weight.mul_(3e3)
    (gradient,) = torch.autograd.grad(loss.eval()(s, t), s)
    assert gradient.isfinite().all()


def test_selected_points_are_all_there_is() -> None:
    s, t, keep = torch.randn(9, 3).double(), torch.randn(9, 4).double(), torch.arange(9) % 3 > 0
    loss = build()
    torch.testing.assert_close(loss(s, t, weight=keep), loss(s[keep], t[keep]))


def test_one_point_is_zero() -> None:
    s = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    value = build()(s, torch.randn(1, 4).double())
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t, loss = torch.randn(20, 3).double(), torch.randn(20, 4).double(), build()
    value = loss(s, t)
    monkeypatch.setattr(blocks, "BLOCK", 100)
    torch.testing.assert_close(loss(s, t), value)
