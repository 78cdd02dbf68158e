from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlosses.rules import coupled_channels


class Reads(nn.Module):
    """Two layers of four channels each, and something that reads them."""

    def __init__(self, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.one, self.other = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
        self.last = nn.LazyConv2d(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.read(self.one(x), self.other(x)))


def followed(read: Callable[[Tensor, Tensor], Tensor]) -> tuple[list[int], list[int], list[int], Any]:
    net = Reads(read).eval()
    image = torch.randn(2, 3, 4, 4)
    net(image)
    found = coupled_channels(net, lambda net: net(image))
    one, other = ([found.root(c) for c in found.layers[f"{name}.0"].writes] for name in ("one", "other"))
    last = [found.root(c) for c in found.layers["last"].reads] if "last" in found.layers else []
    return one, other, last, found


@pytest.mark.parametrize(
    "read",
    [
        lambda a, b: a + b,
        lambda a, b: a.relu().add_(2 * b),
        lambda a, b: torch.mul(a, torch.sigmoid(b)),
        lambda a, b: torch.maximum(a, nn.functional.max_pool2d(b, 3, 1, 1)),
        lambda a, b: torch.cat([a, b], 3),
    ],
)
def test_what_is_combined_elementwise_is_coupled(read: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other, last, found = followed(read)
    assert one == other == last
    assert not any(map(found.fixed, one))


def test_what_is_joined_lies_side_by_side() -> None:
    one, other, last, _ = followed(lambda a, b: torch.cat([b, a * b.mean((2, 3), keepdim=True), b], dim=-3))
    assert one == other
    assert last == [*other, *one, *other]
    one, other, last, _ = followed(lambda a, b: torch.cat((b, nn.functional.pad(a, (1, 0, 0, 0))[:, :, :, 1:]), 1))
    assert last[:4] == other
    assert not {*one} & {*other}


def test_a_number_and_a_map_of_one_channel_say_nothing() -> None:
    one, other, last, found = followed(lambda a, b: 1 - a * 0.5 + b[:, :1])
    assert last == one
    assert not any(map(found.fixed, one))
    assert all(map(found.fixed, other))


@pytest.mark.parametrize(
    "read",
    [
        lambda a, b: a.chunk(2, 1)[0] + b[:, :2],
        lambda a, b: nn.functional.group_norm(a + b, 2),
        lambda a, b: (a + b).softmax(1),
        lambda a, b: (a + b).view(2, 2, 2, 4, 4).transpose(1, 2).reshape(2, 4, 4, 4),
        lambda a, b: (a + b).mean(1, keepdim=True),
        lambda a, b: (a + b) * torch.ones(4, 1, 1),
        lambda a, b: nn.functional.conv2d(a + b, torch.ones(4, 2, 1, 1), groups=2),
        lambda a, b: nn.functional.pad(a + b, (0, 0, 0, 0, 0, 1)),
    ],
)
def test_what_is_read_otherwise_stays(read: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other, _, found = followed(read)
    assert all(map(found.fixed, [*one, *other]))


def test_channels_written_into_a_buffer_stay() -> None:
    def read(a: Tensor, b: Tensor) -> Tensor:
        buffer = torch.zeros(2, 8, 4, 4)
        buffer[:, 4:] = a
        return buffer

    one, _, _, found = followed(read)
    assert all(map(found.fixed, one))


def test_a_layer_with_the_weights_of_another_is_left_whole() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    net[2].weight = net[0].weight
    found = coupled_channels(net, lambda net: net(torch.zeros(1, 3, 2, 2)))
    assert not {"0", "2"} & {*found.layers}
    assert all(found.fixed(c) for c in found.layers["1"].writes)
