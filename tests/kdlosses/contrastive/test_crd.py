from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from sklearn.preprocessing import normalize

from kdlosses import CRD
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "crd",
    options=dict(samples=100, negatives=32, channels=4),
    no_fixed_point="a pair is told from others by embeddings that are still to be learned",
    one_channel="its embeddings are as wide as `channels` says, here one",
    over_pairs=True,
)


def small(**options: int) -> CRD:
    return CRD(3, 4, samples=50, negatives=9, channels=6, tau=0.3, **options).double()


def reference(loss: CRD, s: np.ndarray, t: np.ndarray, y: np.ndarray | None = None) -> float:
    """The formula on a loss that has seen no batch."""
    linear = [[p.detach().numpy() for p in (e.weight, e.bias)] for e in (loss.student_embed, loss.teacher_embed)]
    u, v = (normalize(x @ a.T + b) for x, (a, b) in zip((s, t), linear))
    memory = loss.memory.items.numpy()
    total = 0.0
    for anchor, partner, past in [(u, v, normalize(memory[:, 6:12])), (v, u, normalize(memory[:, :6]))]:
        positive = np.exp((anchor * partner).sum(1) / 0.3)
        negative = np.exp(anchor @ past.T / 0.3)
        z = 50 * np.concatenate([positive[:, None], negative], axis=1).mean()
        other = np.ones_like(negative, dtype=bool) if y is None else y[:, None] != memory[:, 12]
        c = other.sum(1) / 50
        log_no = np.log(c[:, None] / (negative / z + c[:, None]))
        total += (-np.log(positive / z / (positive / z + c)) - (log_no * other).sum(1)).mean()
    return total


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 4)), rng.integers(0, 3, 7)
    pair, loss = [torch.from_numpy(x) for x in (s, t)], small()
    np.testing.assert_allclose(copy.deepcopy(loss)(*pair).item(), reference(loss, s, t), rtol=1e-9)
    loss.memory.items[:, -1] = torch.arange(9) % 3
    value = copy.deepcopy(loss)(*pair, labels=torch.from_numpy(y))
    np.testing.assert_allclose(value.item(), reference(loss, s, t, y), rtol=1e-9)


def test_order_of_the_memory_cannot_matter() -> None:
    s, t, loss = torch.randn(7, 3).double(), torch.randn(7, 4).double(), small()
    moved = copy.deepcopy(loss)
    moved.memory.items.copy_(loss.memory.items.flip(0))
    torch.testing.assert_close(moved(s, t), loss(s, t))


def test_memory_takes_in_the_embeddings_of_the_batch() -> None:
    s, t, loss = torch.randn(4, 3).double(), torch.randn(4, 4).double(), small()
    loss(s, t, labels=torch.tensor([0, 1, 255, 2]))
    held = loss.memory.items[:3]
    torch.testing.assert_close(held[:, :12].unflatten(1, (2, 6)).norm(dim=2), torch.ones(3, 2).double())
    assert held[:, 12].tolist() == [0.0, 1.0, 2.0]
    assert not held.requires_grad


def test_first_batch_that_has_anything_sets_z_for_good() -> None:
    s, t, loss = torch.randn(4, 3).double(), torch.randn(4, 4).double(), small()
    assert loss(s, t, weight=torch.zeros(4)) == 0
    assert not loss.started
    loss(s, t)
    z = loss.log_z.clone()
    loss(5 - s, 5 * t)
    torch.testing.assert_close(loss.log_z, z)


def test_resumes_from_a_checkpoint() -> None:
    s, t, loss = torch.randn(4, 3).double(), torch.randn(4, 4).double(), small()
    loss(s, t)
    other = small()
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other(2 * s + 1, t), loss(2 * s + 1, t))


def test_embeddings_learn() -> None:
    loss = small()
    loss(torch.randn(4, 3).double(), torch.randn(4, 4).double()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t, loss = torch.randn(20, 3).double(), torch.randn(20, 4).double(), small()
    value = copy.deepcopy(loss)(s, t)
    monkeypatch.setattr(blocks, "BLOCK", 50)
    torch.testing.assert_close(loss(s, t), value)


def test_size_of_the_data_set_is_checked() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        CRD(3, 4, samples=0)
