"""Convolutional students ranked and searched before any of them is trained."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import densekd
from densekd.plain.ranking import parameters

DRAW = torch.Generator().manual_seed(0)
BATCH = torch.rand(4, 3, 16, 16, generator=DRAW), torch.randint(4, (4, 16, 16), generator=DRAW)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norm(self.conv(x))).relu()


class Net(nn.Module):
    """A small residual network of two stages, which halves the map once."""

    def __init__(self, width: int, first: int, second: int, stride: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = nn.Sequential(*(Residual(width) for _ in range(first)))
        self.down = nn.Conv2d(width, 2 * width, 3, stride, padding=1)
        self.second = nn.Sequential(*(Residual(2 * width) for _ in range(second)))
        self.head = nn.Conv2d(2 * width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.down(self.first(self.stem(x).relu())).relu()))


def teacher() -> nn.Module:
    return Net(32, 2, 3)


SPACE: dict[str, Any] = dict(width=[2, 4, 8, 16], first=[0, 1, 2, 3], second=[0, 1, 2, 3])


def test_the_search_finds_the_best_network_that_the_budget_allows() -> None:
    every = [dict(zip(SPACE, one)) for one in itertools.product(*SPACE.values())]
    sizes = {str(one): parameters(Net(**one)) for one in every}
    within = {str(one): (lambda one=one: Net(**one)) for one in every if sizes[str(one)] <= 8_000}
    brute = densekd.rank_students(within, teacher, BATCH, seeds=[0])
    found = densekd.search_students(
        Net, SPACE, teacher, BATCH, budget=8_000, seeds=[0], population=6, generations=4, parents=3
    )
    assert str(found.best) == next(iter(brute))
    assert found.score == max(brute.values())
    assert len(found.scored) <= 24 < len(within) < len(every)
    assert max(sizes[str(one)] for one, _ in found.scored) <= 8_000


def test_a_network_like_the_teacher_is_the_best_and_what_is_passed_stays() -> None:
    candidates = {"thin": lambda: Net(1, 0, 0), "like it": teacher, "finer": lambda: Net(2, 1, 1, stride=1)}
    before = torch.get_rng_state()
    scores = densekd.rank_students(candidates, teacher, BATCH, seeds=[0, 1])
    assert torch.equal(torch.get_rng_state(), before)
    assert next(iter(scores)) == "like it"
    assert 0 > scores["like it"] > 0.5 * scores["thin"]
    again = densekd.rank_students(dict(reversed(candidates.items())), teacher, BATCH, seeds=[0, 1])
    assert again == scores
    images, labels = BATCH
    ignored = densekd.rank_students(candidates, teacher, (images, torch.full_like(labels, 255)), seeds=[0])
    assert min(ignored.values()) > min(scores.values())


def test_images_with_one_label_are_samples() -> None:
    def net(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
        )

    images = torch.rand(16, 3, 8, 8, generator=DRAW)
    batch = images, torch.arange(16) % 4
    scores = densekd.rank_students({"1": lambda: net(1), "64": lambda: net(64)}, lambda: net(128), batch, logits="4")
    assert [*scores] == ["64", "1"]


def test_what_cannot_be_ranked_is_named() -> None:
    one: dict[str, Any] = {"a": teacher}
    with pytest.raises(ValueError, match="at least two candidates, got 1"):
        densekd.rank_students(one, teacher, BATCH)
    with pytest.raises(TypeError, match="got a Net itself, whose weights cannot be drawn anew"):
        densekd.rank_students({**one, "b": teacher()}, teacher, BATCH)
    with pytest.raises(ValueError, match="'head:0' is no path of a classifier"):
        densekd.rank_students({**one, "b": teacher}, teacher, BATCH, logits="head:0")
    with pytest.raises(ValueError, match="at least one seed"):
        densekd.rank_students({**one, "b": teacher}, teacher, BATCH, seeds=[])
