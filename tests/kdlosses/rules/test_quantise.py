from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlosses.rules import EvenPoints, LearntPoints, bake, quantise

W = torch.randn(30, 21, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 8), nn.Linear(8, 4))


def by_numpy(weight: Tensor, bits: int, bucket: int) -> np.ndarray:
    flat, out = weight.numpy().ravel(), []
    for start in range(0, len(flat), bucket):
        part = flat[start : start + bucket]
        levels = np.linspace(part.min(), part.max(), 2**bits)
        out.append(levels[np.abs(part[:, None] - levels).argmin(1)])
    return np.concatenate(out).reshape(weight.shape)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("bucket", [16, 64, 10_000])
def test_each_weight_goes_to_the_nearest_even_step_of_its_bucket(bits: int, bucket: int) -> None:
    found = EvenPoints(bits, bucket)(W)
    np.testing.assert_allclose(found, by_numpy(W, bits, bucket), atol=1e-12)
    assert len(found.flatten()[:bucket].unique()) <= 2**bits
    torch.testing.assert_close(EvenPoints(bits, bucket)(found), found)  # idempotent


def test_more_bits_are_nearer_and_32_are_the_weights_themselves() -> None:
    error = [(EvenPoints(bits)(W) - W).abs().max().item() for bits in (2, 4, 8, 32)]
    assert error == sorted(error, reverse=True)
    assert error[2] > 0 == error[3]


def test_the_gradient_passes_through_the_rounding() -> None:
    weight = W.clone().requires_grad_()
    upstream = torch.randn_like(W)
    (gradient,) = torch.autograd.grad((EvenPoints(2)(weight) * upstream).sum(), weight)
    assert torch.equal(gradient, upstream)


def test_a_constant_bucket_stays_finite() -> None:
    same = torch.full((4, 4), 0.3)
    for points in (EvenPoints(2), LearntPoints(same, 2)):
        torch.testing.assert_close(points(same), same)


def test_the_gradient_of_a_point_is_that_of_all_weights_assigned_to_it() -> None:
    points = LearntPoints(W, bits=3, bucket=64).double()
    upstream = torch.randn_like(W)
    (points(W) * upstream).sum().backward()
    step = 1e-6  # too small to change an assignment
    for place in range(8):
        moved = []
        for sign in (1, -1):
            other = copy.deepcopy(points)
            other.points.data[place] += sign * step
            moved.append((other(W) * upstream).sum().item())
        assert points.points.grad[place].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4)


def test_points_start_at_quantiles_and_their_order_means_nothing() -> None:
    points = LearntPoints(W, bits=2, bucket=10_000).double()
    unit = (W - W.min()) / (W.max() - W.min())
    expected = np.quantile(unit.numpy(), (np.arange(4) + 0.5) / 4, method="nearest")
    np.testing.assert_allclose(points.points.detach(), expected, atol=0.01)
    before = points(W)
    points.points.data = points.points.data.flip(0)
    torch.testing.assert_close(points(W), before)
    distance = (unit[..., None] - points.points.detach()).abs()
    torch.testing.assert_close(((before - W.min()) / (W.max() - W.min())), points.points[distance.argmin(-1)])


@pytest.mark.parametrize("learnt", [False, True])
def test_a_network_computes_with_few_values_and_bakes_to_a_plain_one(learnt: bool) -> None:
    network = quantise(net(), bits=2, learnt=learnt)
    keys = set(net().state_dict())
    x = torch.randn(5, 2, 3, 3)
    expected = network.eval()(x)
    frozen = [name for name, each in network.named_parameters() if not each.requires_grad]
    assert bool(frozen) == learnt
    bake(network)
    assert set(network.state_dict()) == keys
    torch.testing.assert_close(network(x), expected)
    for place in (0, 3, 4):
        assert len(network[place].weight.unique()) <= 4
    assert torch.equal(network[1].weight, net()[1].weight)  # batch norm is left alone
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_step_moves_the_weights_beneath() -> None:
    network = quantise(nn.Sequential(nn.Linear(6, 3)), bits=1)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = network[0].parametrizations.weight.original.clone()
    network(torch.ones(2, 6)).sum().backward()
    optimiser.step()
    torch.testing.assert_close(network[0].parametrizations.weight.original, before - 2e-3)
    assert len(network[0].weight.unique()) == 2


def test_first_and_last_layer_may_be_kept() -> None:
    network = bake(quantise(net(), bits=1, ends=False))
    assert torch.equal(network[0].weight, net()[0].weight)
    assert torch.equal(network[4].weight, net()[4].weight)
    assert len(network[3].weight.unique()) == 2
    with pytest.raises(ValueError, match="between the first and the last"):
        quantise(nn.Sequential(nn.Linear(2, 2)), 2, ends=False)
    with pytest.raises(ValueError, match="at least 1 bit"):
        quantise(net(), 0)
