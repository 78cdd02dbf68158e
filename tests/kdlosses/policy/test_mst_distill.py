from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax

import kdlosses

CONTRACT = LossContract("mst_distill", options=dict(teachers=1), no_two_classes="its router starts at random")


def built(**options: object) -> kdlosses.Loss:
    torch.manual_seed(0)
    return kdlosses.build(dict(type="mst_distill", **{**dict(classes=3, teachers=3), **options}))


@pytest.mark.parametrize("k", [1, 2])
def test_value_is_that_of_the_formula(k: int) -> None:
    s, t = torch.randn(8, 3, dtype=torch.float64), 3 * torch.randn(8, 9, dtype=torch.float64)
    weight = torch.tensor([1.0, 2, 0, 1, 1, 3, 0, 1], dtype=torch.float64)
    loss = built(k=k, balance=0.7).double()
    gate = softmax(loss.loss.gate(s).detach().numpy(), axis=1)
    chosen = np.argsort(-gate, axis=1)[:, :k]
    q = softmax(s.numpy() / 4, axis=1)
    each = np.stack([16 * rel_entr(softmax(p / 4, axis=1), q).sum(1) for p in np.split(t.numpy(), 3, axis=1)], 1)
    w = weight.numpy() / weight.sum().item()
    load = w @ gate
    expected = w @ np.take_along_axis(each, chosen, 1).mean(1) + 0.7 * rel_entr(np.full(3, 1 / 3), load).sum()
    assert loss(s, t, weight=weight).item() == pytest.approx(expected)


def test_one_teacher_is_the_loss_inside() -> None:
    s, t = torch.randn(6, 3, 2, 2), torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(built(teachers=1)(s, t), kdlosses.kl(s, t, tau=4.0))


def test_a_gate_that_has_no_preference_is_balanced() -> None:
    loss, s = built(), torch.randn(6, 3)
    torch.nn.init.zeros_(loss.loss.gate[2].weight)
    torch.nn.init.zeros_(loss.loss.gate[2].bias)
    assert loss(s, torch.cat([s, s, s], 1)).item() == pytest.approx(0, abs=1e-6)


def test_the_gate_learns_which_teacher_is_like_the_student() -> None:
    """With the balance off the gate leaves a teacher that costs more."""
    s = torch.randn(40, 3)
    t = torch.cat([5 * torch.randn(40, 3), s, 5 * torch.randn(40, 3)], 1)
    loss = built(balance=0.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    first = loss(s, t).item()
    for _ in range(200):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    assert loss(s, t).item() < 0.1 * first
    assert (loss.loss.gate(s).argmax(1) == 1).float().mean() > 0.9


def test_the_balance_keeps_a_gate_from_collapsing() -> None:
    s, t = torch.randn(40, 3), torch.randn(40, 9)
    loss = built(balance=1.0)
    with torch.no_grad():
        loss.loss.gate[2].bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    assert loss.loss.gate(s).softmax(1).mean(0).min() > 0.2


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="k must be a number of teachers, 1 to 3, got 4"):
        built(k=4)
    with pytest.raises(ValueError, match="got 2 teachers, the gate was built for 3"):
        built()(torch.zeros(2, 3), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="must take a weight"):
        built(loss=lambda student, teacher: student.sum())
