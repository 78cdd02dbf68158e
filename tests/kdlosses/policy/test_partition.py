from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

import kdlosses


@pytest.mark.parametrize("by", ["confidence", "label"])
def test_value_is_that_of_the_formula(by: str) -> None:
    s, t, start = (2 * torch.randn(20, 3, dtype=torch.float64) for _ in range(3))
    labels = torch.randint(3, (20,))
    labels[:4] = -1
    p, p0, q = (softmax(z.numpy(), axis=1) for z in (t, start, s))
    better = p.max(1) > p0.max(1)
    if by == "label":
        known = np.arange(4, 20)
        better[known] = (p > p0)[known, labels[4:].numpy()]
    assert 0 < better[4:].sum() < 16
    expected = rel_entr(np.where(better[:, None], p, p0), q).sum(1).mean()
    loss = kdlosses.build(dict(type="partition", by=by))
    assert loss(s, torch.cat([t, start], 1), labels=labels).item() == pytest.approx(expected)


def test_a_teacher_that_is_the_start_teaches_nothing_at_the_start() -> None:
    s = torch.randn(5, 3, requires_grad=True)
    loss = kdlosses.build("partition")(s, torch.cat([s.detach(), s.detach()], 1))
    loss.backward()
    assert s.grad.abs().max() < 1e-7


def test_better_everywhere_is_distillation_and_worse_everywhere_stays() -> None:
    s, start, labels = torch.randn(5, 3), torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])
    right = 4 * torch.nn.functional.one_hot(labels, 3).float()
    loss = kdlosses.build(dict(type="partition", by="label", loss=dict(type="kl", tau=2.0)))
    torch.testing.assert_close(loss(s, torch.cat([right, start], 1), labels=labels), kdlosses.kl(s, right, tau=2.0))
    wrong = torch.cat([-right, start], 1)
    torch.testing.assert_close(loss(s, wrong, labels=labels), kdlosses.kl(s, start, tau=2.0))


def test_ties_go_to_the_start() -> None:
    start = torch.tensor([[2.0, 0.0, 0.0]])
    tie = torch.tensor([[0.0, 2.0, 0.0]])
    s = torch.randn(1, 3)
    torch.testing.assert_close(kdlosses.build("partition")(s, torch.cat([tie, start], 1)), kdlosses.kl(s, start))


def test_of_several_teachers_the_surest_counts() -> None:
    s, base = torch.randn(4, 3), torch.randn(4, 3)
    loss = kdlosses.build("partition")
    torch.testing.assert_close(loss(s, torch.cat([2 * base, 5 * base, base], 1)), kdlosses.kl(s, 5 * base))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match="requires labels; pass labels="):
        kdlosses.build(dict(type="partition", by="label"))(torch.zeros(2, 3), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="'confidence' or 'label'"):
        kdlosses.build(dict(type="partition", by="luck"))
