from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdlosses.rules import mix_statistics


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_formula_on_nodes() -> None:
    x, other = drawn(30, 4), 3 * drawn(11, 4, seed=1) - 2
    found = mix_statistics(x, other, keep=0.25).numpy()
    for c in range(4):
        a, b = x[:, c].numpy(), other[:, c].numpy()
        mean, spread = 0.25 * a.mean() + 0.75 * b.mean(), 0.25 * a.std() + 0.75 * b.std()
        np.testing.assert_allclose(found[:, c], (a - a.mean()) / a.std() * spread + mean)
        np.testing.assert_allclose([found[:, c].mean(), found[:, c].std()], [mean, spread])


def test_each_map_has_a_partner_and_a_share_of_its_own() -> None:
    x, keep = drawn(3, 2, 5, 5), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    other = 2 * x.roll(1, 0) + 1
    found = mix_statistics(x, other, keep)
    for i in range(3):
        as_nodes = mix_statistics(x[i].flatten(1).t(), other[i].flatten(1).t(), keep[i])
        torch.testing.assert_close(found[i].flatten(1).t(), as_nodes)
    torch.testing.assert_close(found[2], x[2])


def test_equal_statistics_are_the_identity() -> None:
    x = drawn(20, 3)
    torch.testing.assert_close(mix_statistics(x, x[torch.randperm(20)], keep=0.3), x)
    torch.testing.assert_close(mix_statistics(x, 5 * x + 1, keep=1.0), x)


def test_a_constant_channel_takes_the_mean_alone() -> None:
    x, other = torch.full((6, 1), 2.0), torch.arange(4.0).unsqueeze(1)
    torch.testing.assert_close(mix_statistics(x, other), torch.full((6, 1), 1.5))
