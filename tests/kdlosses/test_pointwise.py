from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdlosses.pointwise import Pointwise


def test_is_a_linear_layer_of_nodes_and_a_1x1_convolution_of_maps() -> None:
    layer, maps = Pointwise(3, 7), torch.randn(2, 3, 4, 5)
    convolved = F.conv2d(maps, layer.weight[:, :, None, None], layer.bias)
    torch.testing.assert_close(layer(maps), convolved)
    nodes = maps.movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(layer(nodes), convolved.movedim(1, -1).flatten(0, 2))


def test_without_bias() -> None:
    layer, maps = Pointwise(3, 7, bias=False), torch.randn(2, 3, 4)
    torch.testing.assert_close(layer(maps), F.conv1d(maps, layer.weight[:, :, None]))


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 3, 3)])
def test_wrong_width_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 3 channels on axis 1"):
        Pointwise(3, 7)(torch.randn(shape))
