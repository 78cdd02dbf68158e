from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.preprocessing import normalize

from kdlosses import COMODO, infonce
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "comodo", options=dict(size=32), no_fixed_point="the teacher is the hotter one", over_pairs=True
)


def reference(s: np.ndarray, t: np.ndarray, queue: np.ndarray, tau_s: float = 0.05, tau_t: float = 0.1) -> float:
    s, t = normalize(s), normalize(t)
    keys = np.concatenate([queue, t])
    return -(softmax(t @ keys.T / tau_t, axis=1) * log_softmax(s @ keys.T / tau_s, axis=1)).sum(1).mean()


def test_formula_over_a_run_of_batches() -> None:
    rng = np.random.default_rng(0)
    loss, queue = COMODO(channels=3, size=10).double(), np.zeros((0, 3))
    for _ in range(4):
        s, t = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
        value = loss(*map(torch.from_numpy, (s, t))).item()
        np.testing.assert_allclose(value, reference(s, t, queue), rtol=1e-10)
        queue = np.concatenate([queue, normalize(t)])[-10:]


def test_least_value_is_the_entropy_of_the_teacher() -> None:
    loss, t = COMODO(channels=3, size=4, student_tau=0.1).double(), torch.randn(6, 3, dtype=torch.float64)
    s = t.clone().requires_grad_()
    value = loss(s, t)
    value.backward()
    assert s.grad.abs().max() < 1e-12
    shares = softmax(normalize(t.numpy()) @ normalize(t.numpy()).T / 0.1, axis=1)
    np.testing.assert_allclose(value.item(), entropy(shares, axis=1).mean(), rtol=1e-10)


def test_cold_teacher_makes_it_infonce() -> None:
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    cold = COMODO(channels=3, size=4, student_tau=0.2, teacher_tau=1e-4)
    torch.testing.assert_close(cold(s, t), infonce(s, t, tau=0.2))


def test_order_of_the_queue_cannot_matter_and_evaluation_leaves_it() -> None:
    loss = COMODO(channels=3, size=8)
    loss(torch.randn(6, 3), torch.randn(6, 3))
    loss.eval()
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    value, order = loss(s, t), torch.randperm(8)
    loss.queue.items.copy_(loss.queue.items[order])
    loss.queue.weight.copy_(loss.queue.weight[order])
    torch.testing.assert_close(loss(s, t), value)
    assert loss.queue.weight.sum() == 6


def test_masked_positions_are_not_taken_into_the_queue() -> None:
    loss = COMODO(channels=3, size=8)
    loss(torch.randn(6, 3), torch.randn(6, 3), weight=torch.tensor([1, 0, 0, 1, 1, 0]))
    assert loss.queue.weight.tolist() == [1.0] * 3 + [0.0] * 5


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t = torch.randn(20, 3), torch.randn(20, 3)
    value = COMODO(channels=3, size=8)(s, t)
    monkeypatch.setattr(blocks, "BLOCK", 100)
    torch.testing.assert_close(COMODO(channels=3, size=8)(s, t), value)


def test_wrong_options_raise() -> None:
    with pytest.raises(ValueError, match="temperature teacher_tau must be positive"):
        COMODO(channels=3, teacher_tau=0.0)
    with pytest.raises(ValueError, match="cannot be 'sample'"):
        COMODO(channels=3, view="sample")
