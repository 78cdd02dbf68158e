"""A small transformer on point clouds: tokens of neighbourhoods, and one for the whole. Plain tensors; no OpenMMLab."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PointTransformer(nn.Module):
    """A vision transformer for points: each token is a neighbourhood of the cloud, one more stands for the whole.

    Centres are chosen farthest from each other, beginning with the point that is farthest from the mean; a token is the
    maximum over the nearest points of a centre, of an MLP on their places around it, plus an MLP of the centre's own
    place. Blocks normalise first. The feature of a cloud is the token of the whole and the maximum over the others.
    Batch normalisation in these MLPs and on the feature, as in `PointEncoder`: in training a batch has at least two
    clouds. The order of points has no effect, but for which of several equally near ones is taken.

    Args:
        in_channels: of a point: x, y, z, then features.
        channels: of the feature of a cloud, twice the width of a token.
        groups: tokens at most; a cloud of fewer points has one for each.
        size: points of a neighbourhood at most.
        depth: blocks.
        heads: of the attention; they divide the width.

    Raises:
        ValueError: heads that do not divide the width, no head, group, point or block, or points without three places.

    Paper: after the abstract of "Distillation with Contrast is All You Need for Self-Supervised Point Cloud
    Representation Learning", 2022, which has a variant of the vision transformer for points. The form is our own.

    >>> encoder, clouds = PointTransformer(channels=16, groups=8, size=4).eval(), torch.rand(2, 40, 3)
    >>> torch.allclose(encoder(clouds), encoder(clouds.flip(1)), atol=1e-5)
    True
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 256,
        groups: int = 64,
        size: int = 32,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        width = channels // 2
        for name, value in (("groups", groups), ("size", size), ("depth", depth), ("heads", heads)):
            if value < 1:
                raise ValueError(f"point transformer: {name} must be at least 1, got {value}")
        if in_channels < 3:
            raise ValueError(f"point transformer: in_channels must be at least 3, x, y and z, got {in_channels}")
        if channels % 2 or width % heads:
            raise ValueError(
                f"point transformer: half of channels={channels} must be a multiple of heads={heads}: a token is half "
                "as wide as the feature"
            )
        self.channels, self.groups, self.size = channels, groups, size
        self.neighbours, self.place = _mlp(in_channels, width), _mlp(3, width)
        self.whole = nn.Parameter(0.02 * torch.randn(width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, clouds: Tensor) -> Tensor:
        """Return the features `(B, channels)` of clouds `(B, n, in_channels)`."""
        places = clouds[..., :3]
        centres = _taken(places, farthest(places, self.groups))
        near = torch.cdist(centres, places).topk(min(self.size, clouds.shape[1]), dim=2, largest=False).indices
        around = _taken(clouds, near.flatten(1)).unflatten(1, near.shape[1:])
        around = torch.cat([around[..., :3] - centres.unsqueeze(2), around[..., 3:]], 3)
        tokens = _each(self.neighbours, around).amax(2) + _each(self.place, centres)
        found = self.blocks(torch.cat([self.whole.expand(len(clouds), 1, -1), tokens], 1))
        return self.norm(torch.cat([found[:, 0], found[:, 1:].amax(1)], 1))


def _mlp(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))


def _each(network: nn.Module, points: Tensor) -> Tensor:
    """Apply a network of rows to points `(*, C)`."""
    return network(points.flatten(0, -2)).unflatten(0, points.shape[:-1])


@torch.no_grad()
def farthest(places: Tensor, count: int) -> Tensor:
    """Choose points far apart: each is the farthest from those before; the first is the farthest from the mean.

    Args:
        places: `(B, n, 3)`.
        count: how many; all n if there are fewer.

    Returns:
        indices `(B, min(count, n))`.

    >>> line = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [9.0, 0, 0]]])
    >>> farthest(line, 3).tolist()
    [[3, 0, 2]]
    """
    chosen = [(places - places.mean(1, keepdim=True)).square().sum(2).argmax(1)]
    least = torch.full_like(places[..., 0], torch.inf)
    for _ in range(min(count, places.shape[1]) - 1):
        last = _taken(places, chosen[-1].unsqueeze(1))
        least = torch.minimum(least, (places - last).square().sum(2))
        chosen.append(least.argmax(1))
    return torch.stack(chosen, 1)


def _taken(points: Tensor, indices: Tensor) -> Tensor:
    """Points `(B, n, C)` at indices `(B, m)`: `(B, m, C)`."""
    return points.gather(1, indices.unsqueeze(2).expand(-1, -1, points.shape[2]))
