"""Random crops of point clouds, as views for self-supervised learning. Plain tensors; no OpenMMLab."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GLOBAL, LOCAL = (0.7, 1.0), (0.2, 0.4)
"""Ranges of the share of points in a global and in a local crop."""


def crop(
    points: Tensor,
    share: tuple[float, float] = GLOBAL,
    count: int = 1024,
    generator: torch.Generator | None = None,
    scale: tuple[float, float] = (0.9, 1.1),
    jitter: float = 0.01,
) -> Tensor:
    """Crop a cloud at random: the neighbours of a random point, rotated about the vertical, scaled and jittered.

    The crop is centred on its mean. Of more than `count` points some are dropped; of fewer, some are repeated, each
    copy with its own jitter.

    Args:
        points: `(n, 3 + C)`: x, y, z in metres, z up, then features, which are kept.
        share: range of the share of the points that the crop has; at least one point.
        count: points to return.
        generator: of random numbers; the same state gives the same crop.
        scale: range of the factor on all lengths.
        jitter: standard deviation of the noise on each coordinate, in metres.

    Returns:
        `(count, 3 + C)`.

    Raises:
        ValueError: a cloud without points, or a share out of range.

    >>> line = torch.arange(10.0)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    >>> part = crop(line, (0.3, 0.3), 3, torch.Generator().manual_seed(0), scale=(1.0, 1.0), jitter=0.0)
    >>> part[:, 2].sort().values.tolist()  # three neighbours, about their mean
    [-1.0, 0.0, 1.0]
    """
    if not len(points):
        raise ValueError("cannot crop a cloud without points")
    if not 0 < share[0] <= share[1] <= 1:
        raise ValueError(f"share must be a range in (0, 1], got {share}")

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    n = len(points)
    middle = points[torch.randint(n, (), generator=generator), :3]
    kept = max(1, round(uniform(*share) * n))
    near = (points[:, :3] - middle).square().sum(1).topk(kept, largest=False).indices
    again = near[torch.randint(kept, (max(0, count - kept),), generator=generator)]
    chosen = torch.cat([near[torch.randperm(kept, generator=generator)], again])[:count]
    places, features = points[chosen, :3], points[chosen, 3:]
    angle = uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = places.new_tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * uniform(*scale)
    places = (places - places.mean(0)) @ turn
    places = places + jitter * torch.randn(places.shape, generator=generator).to(places)
    return torch.cat([places, features], 1)


def views(
    points: Tensor, generator: torch.Generator | None = None, local: int = 4, counts: tuple[int, int] = (1024, 256)
) -> list[Tensor]:
    """Return two global and `local` local crops, of `counts` points each.

    >>> [len(view) for view in views(torch.rand(50, 3), local=2, counts=(32, 8))]
    [32, 32, 8, 8]
    """
    whole = [crop(points, GLOBAL, counts[0], generator) for _ in range(2)]
    return whole + [crop(points, LOCAL, counts[1], generator) for _ in range(local)]
