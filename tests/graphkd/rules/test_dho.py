from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn
from torch.nn.utils import parametrize

from graphkd.rules import FoldedHeads, mix_heads

Z1, Z2 = torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind(0)


def softmax(z: torch.Tensor) -> np.ndarray:
    return scipy.special.softmax(z.numpy(), axis=1)


def test_the_mixture_and_its_ends() -> None:
    mixed = mix_heads(Z1, Z2, share=0.3, tau=0.5).exp()
    np.testing.assert_allclose(mixed, 0.3 * softmax(Z1) + 0.7 * softmax(Z2 / 0.5))
    np.testing.assert_allclose(mixed.sum(1), 1)
    torch.testing.assert_close(mix_heads(Z1, Z2, share=1.0), Z1.log_softmax(1))
    torch.testing.assert_close(mix_heads(Z1, Z2, share=0.0, tau=2.0), (Z2 / 2).log_softmax(1))
    with pytest.raises(ValueError, match="share is 0 to 1"):
        mix_heads(Z1, Z2, share=2.0)


def test_folded_heads_are_the_geometric_mixture_and_in_training_the_first_head() -> None:
    torch.manual_seed(0)
    one, two, x = nn.Linear(5, 4), nn.Linear(5, 4), torch.randn(7, 5)
    first, second = one(x), two(x)
    for name in ("weight", "bias"):
        parametrize.register_parametrization(one, name, FoldedHeads(getattr(two, name), share=0.3, tau=0.5))
    torch.testing.assert_close(one.train()(x), first)
    expected = softmax(first.detach()) ** 0.3 * softmax(second.detach() / 0.5) ** 0.7
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(one.eval()(x).softmax(1).detach(), expected, atol=1e-6)
    for name in ("weight", "bias"):
        parametrize.remove_parametrizations(one, name)
    assert set(one.state_dict()) == {"weight", "bias"}
    np.testing.assert_allclose(one(x).softmax(1).detach(), expected, atol=1e-6)
