"""Query-based soft distillation in NumPy, and what asking the teacher is for."""

from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from scipy.special import softmax
from torch import nn

from densekd.losses import GKD

CONTRACT = LossContract(
    "gkd",
    no_fixed_point="linear maps that are still to be learned stand between",
    one_channel="the layer norm of a single channel is always 0",
)


def through(layers: nn.Sequential, rows: np.ndarray) -> np.ndarray:
    norm, linear = ({key: value.detach().numpy() for key, value in layer.state_dict().items()} for layer in layers)
    rows = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    return (rows * norm["weight"] + norm["bias"]) @ linear["weight"].T + linear["bias"]


def test_formula() -> None:
    torch.manual_seed(0)
    loss = GKD(student_channels=3, teacher_channels=5).double()
    s, t = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 5, 4, 6, dtype=torch.float64)
    weight = np.random.default_rng(0).integers(0, 3, (2, 4, 6)).astype(float)
    plain, weighted = 0.0, 0.0
    for f_s, f_t, w in zip(s.numpy(), t.numpy(), weight):
        mine, its, count = f_s.reshape(3, -1).T, f_t.reshape(5, -1).T, w.ravel()
        query, value = through(loss.query, mine), through(loss.value, mine)
        share = softmax(query @ its.T, axis=1)
        plain += ((share @ value - its) ** 2).mean() / 2
        share = share * count / (share * count).sum(1, keepdims=True)
        weighted += (((share @ value - its) ** 2).mean(1) * count).sum() / weight.sum()
    np.testing.assert_allclose(loss(s, t).item(), plain, rtol=1e-9)
    np.testing.assert_allclose(loss(s, t, weight=torch.from_numpy(weight)).item(), weighted, rtol=1e-9)


def fitted(loss: nn.Module, s: torch.Tensor, t: torch.Tensor) -> float:
    optimizer = torch.optim.Adam(loss.parameters(), 0.03)
    for _ in range(200):
        optimizer.zero_grad()
        loss(s, t).backward()
        optimizer.step()
    return loss(s, t).item()


def test_asking_takes_out_what_no_map_of_single_positions_can() -> None:
    """The idea: noise of a position is averaged out over all those that the teacher holds to be alike."""

    class Pointwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))

        def forward(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return (self.map(s.movedim(1, -1)) - t.movedim(1, -1)).square().mean()

    torch.manual_seed(0)
    kinds = torch.randint(4, (4, 8, 8))
    t = torch.eye(4)[kinds].movedim(-1, 1)
    s = t + 0.25 * torch.randn_like(t)
    assert fitted(GKD(4, 4), s, t) < 0.5 * fitted(Pointwise(), s, t)


def test_positions_of_no_weight_are_not_asked() -> None:
    loss = GKD(3, 5).double()
    s, t = torch.randn(1, 3, 4, 6, dtype=torch.float64), torch.randn(1, 5, 4, 6, dtype=torch.float64)
    weight = torch.ones(1, 4, 6)
    weight[..., 4:] = 0
    torch.testing.assert_close(loss(s, t, weight=weight), loss(s[..., :4], t[..., :4]))
