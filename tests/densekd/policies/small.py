"""Scenes of coloured blocks, networks for them, and what a training has seen of its data."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import densekd
from densekd.plain.outcome import Result

Pair = tuple[Tensor, Tensor]


def net(width: int = 4, classes: int = 3) -> nn.Module:
    """A segmenter of two convolutions."""
    body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(OrderedDict(body=body, head=nn.Conv2d(width, classes, 1)))


def scenes(count: int, seed: int, noise: float = 1.0, wrong: float = 0.0) -> list[Pair]:
    """Blocks of three colours under noise; the class of a pixel is its colour, of a share of the blocks any class."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        colour, other = (torch.randint(3, (4, 4), generator=draw) for _ in range(2))
        label = colour.where(torch.rand(4, 4, generator=draw) >= wrong, other)
        colour, label = (each.repeat_interleave(4, 0).repeat_interleave(4, 1) for each in (colour, label))
        image = torch.eye(3)[colour].permute(2, 0, 1) + noise * torch.randn(3, 16, 16, generator=draw)
        found.append((image, label))
    return found


def eyes(scale: float = 8.0) -> nn.Module:
    """A teacher that reads the colour of each pixel."""
    layer = nn.Conv2d(3, 3, 1, bias=False)
    layer.weight.data = scale * torch.eye(3)[:, :, None, None]
    return nn.Sequential(OrderedDict(body=nn.Identity(), head=layer))


class Watched(Dataset):
    """A data set that remembers what was read of it in training steps, and not between them."""

    def __init__(self, pairs: list[Pair], domains: list[Any] | None = None) -> None:
        self.pairs, self.read = pairs, []
        if domains is not None:
            self.domains = domains

    read: list[int]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        self.read.append(index)
        return self.pairs[index]


class Trace(densekd.policies.Policy):
    """What a run was like: weights of task and entries, and the positions of its sampler at each step."""

    name = "trace"

    def start(self, run: densekd.policies.Run) -> None:
        self.weights = run.task_weight, [term.weight for term in run.terms]
        self.steps = run.steps
        self.drawn = [] if run.draws is None else run.draws.changes


def trained(student: Any, teacher: Any, train: Any, policies: list[Any], **options: Any) -> Result:
    """A short training on the CPU without words."""
    given: dict[str, Any] = dict(epochs=2, batch_size=4, lr=0.02, device="cpu", log=str, val=scenes(4, 90))
    given |= {"method": "kl"} if teacher is not None and "distills" not in options else {}
    return densekd.fit(student, teacher, train=train, policies=policies, **given | options)
