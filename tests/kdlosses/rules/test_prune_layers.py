from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from kdlosses.rules.prune_layers import Passed, least_loss, prune_layers


class Writes(nn.Module):
    """Adds to a channel of its own what it reads of the first: blocks like it do not hear each other."""

    def __init__(self, channel: int, scale: float, spare: int) -> None:
        super().__init__()
        self.channel, self.scale, self.spare = (
            channel,
            nn.Parameter(torch.tensor(scale)),
            nn.Parameter(torch.ones(spare)),
        )

    def forward(self, x: Tensor, other: str = "") -> Tensor:
        return x + self.scale * x[:, :1] * F.one_hot(torch.tensor(self.channel), x.shape[1])


def true_loss(model: nn.Sequential, chosen: tuple[int, ...], x: Tensor) -> float:
    kept = nn.Sequential(*(block for place, block in enumerate(model) if place not in chosen))
    return (kept(x) - model(x)).square().mean().item()


def test_where_the_sum_is_exact_it_finds_the_best_of_all_subsets() -> None:
    draw = np.random.default_rng(0)
    model = nn.Sequential(*(Writes(1 + i, float(draw.uniform(0.2, 2)), int(draw.integers(1, 40))) for i in range(8)))
    x = torch.rand(16, 9) + 0.5
    sizes = [1 + block.spare.numel() for block in model]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paths = [str(place) for place in range(8)]
    picked = set()
    for share in (0.1, 0.3, 0.5, 0.8):
        found = prune_layers(model, paths, lambda net: net(x), share)
        subsets = [one for r in range(9) for one in itertools.combinations(range(8), r)]
        able = [one for one in subsets if sum(sizes[place] for place in one) >= share * sum(sizes)]
        best = min(able, key=lambda one: true_loss(model, one, x))
        assert found.removed == [str(place) for place in best]
        assert found.loss == pytest.approx(true_loss(model, best, x), rel=1e-4)
        assert found.expected == pytest.approx(found.loss, rel=1e-4)
        assert [type(block) is Passed for block in found.model] == [place in best for place in range(8)]
        picked.add(best)
    assert len(picked) == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(model) == 8
    assert not any(isinstance(block, Passed) for block in model)


def test_the_knapsack_is_exact() -> None:
    draw = np.random.default_rng(0)
    for _ in range(30):
        losses, costs = draw.random(9).round(2).tolist(), draw.integers(1, 10_000_000, 9).tolist()
        need = draw.uniform(0, 1) * sum(costs)
        best = min(
            sum(losses[i] for i in one)
            for r in range(10)
            for one in itertools.combinations(range(9), r)
            if sum(costs[i] for i in one) >= need
        )
        found = least_loss(losses, costs, need)
        assert sum(losses[i] for i in found) == pytest.approx(best)
        assert sum(costs[i] for i in found) >= need
    with pytest.raises(ValueError, match="all items cost 3, less than the 4"):
        least_loss([1.0, 1.0], [1, 2], 4)


class Block(nn.Module):
    """A residual block, which returns a tuple as transformers' do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, scale: float = 1.0) -> tuple[Tensor]:
        return (x + scale * self.inner(x),)


class Net(nn.Module):
    def __init__(self, width: int = 16, depth: int = 6) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, 1.0)[0]
        return self.head(x)


def test_on_a_trained_network_the_choice_is_better_than_chance() -> None:
    data = load_digits()
    x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    torch.manual_seed(0)
    model = Net()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        F.cross_entropy(model(x[:500]), y[:500]).backward()
        optimiser.step()
    paths = [f"blocks.{place}" for place in range(6)]
    share = 3 * sum(each.numel() for each in model.blocks[0].parameters()) / sum(e.numel() for e in model.parameters())
    found = prune_layers(model, paths, lambda net: net(x[:200]), share - 1e-6)
    assert len(found.removed) == 3

    def scored(net: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            out = net(x[1200:])
        return (out - model(x[1200:])).square().mean().item(), (out.argmax(1) == y[1200:]).double().mean().item()

    every = []
    for chosen in itertools.combinations(paths, 3):
        other = Net()
        other.load_state_dict(model.state_dict())
        for path in chosen:
            other.blocks[int(path[-1])] = Passed(in_tuple=True)
        every.append(scored(other))
    losses, right = zip(*every)
    mine = scored(found.model)
    assert mine[0] < np.quantile(losses, 0.2)
    assert mine[1] > np.mean(right) + 0.05


@pytest.mark.parametrize(
    ("layers", "share", "message"),
    [
        (["blocks.0"], 0.9, "the layers have 1,104 of"),
        (["blocks.0"], 0.0, "share is above 0"),
        (["blocks", "blocks.0"], 0.1, "is left out with 'blocks' already"),
        (["stem"], 0.1, r"'stem' yields \(4, 16\) of \(4, 64\)"),
    ],
)
def test_what_cannot_be_left_out_is_named(layers: list[str], share: float, message: str) -> None:
    def output(net: Any) -> Tensor:
        return net(torch.zeros(4, 64))

    with pytest.raises(ValueError, match=message):
        prune_layers(Net(), layers, output, share)
    with pytest.raises(KeyError, match=r"has no module 'block\.0'; nearest: blocks"):
        prune_layers(Net(), ["block.0"], output, 0.1)


def test_parameters_that_stay_elsewhere_are_not_left_out() -> None:
    net = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(4)))
    net[1].weight = net[0].weight
    with pytest.raises(ValueError, match="the layers have 0 of 48 parameters"):
        prune_layers(net, ["0"], lambda each: each(torch.ones(2, 4)), 0.2)
    found = prune_layers(net, ["0", "2", "3"], lambda each: each(torch.ones(2, 4)), 0.6)
    assert found.removed == ["2", "3"]


def test_an_output_that_is_not_finite_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="without '0' the output changes by nan"):
        prune_layers(net, ["0", "1"], lambda each: each(torch.full((2, 4), float("nan"))), 0.5)
