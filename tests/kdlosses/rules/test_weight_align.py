from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kdlosses.rules import weight_align


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(5, 7, 1)])
def test_new_rows_get_the_mean_norm_of_the_old_ones(layer: nn.Module) -> None:
    layer = copy.deepcopy(layer)
    layer.weight.data[4:] *= 3
    weight, bias = layer.weight.detach().flatten(1).double().numpy().copy(), layer.bias.clone()
    norms = np.linalg.norm(weight, axis=1)
    gamma = weight_align(layer, old=4)
    assert gamma == pytest.approx(norms[:4].mean() / norms[4:].mean(), rel=1e-5)
    found = layer.weight.detach().flatten(1).numpy()
    np.testing.assert_array_equal(found[:4], weight[:4])
    np.testing.assert_allclose(found[4:], gamma * weight[4:], rtol=1e-5)
    assert torch.equal(layer.bias, bias)
    assert weight_align(layer, old=4) == pytest.approx(1, abs=1e-6)


def test_the_order_among_new_classes_stays_and_the_old_gain() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 6, bias=False), torch.randn(500, 8)
    layer.weight.data[3:] *= 4
    before = layer(x)
    weight_align(layer, old=3)
    after = layer(x)
    assert torch.equal(before[:, 3:].argmax(1), after[:, 3:].argmax(1))
    assert (after.argmax(1) < 3).sum() > (before.argmax(1) < 3).sum() + 50


@pytest.mark.parametrize("old", [0, 3, -1])
def test_groups_that_are_not_there_are_named(old: int) -> None:
    with pytest.raises(ValueError, match="of 3 classes 1 to 2 can be old"):
        weight_align(nn.Linear(2, 3), old)


def test_rows_of_zeros_are_named() -> None:
    layer = nn.Linear(2, 3)
    layer.weight.data[2] = 0
    with pytest.raises(ValueError, match="from 2 on are all 0"):
        weight_align(layer, 2)
