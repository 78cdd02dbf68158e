"""Self-distillation with contrast: self-supervised training of a point-cloud encoder. No OpenMMLab model needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekd.teacher import MovingAverage
from kdlosses import COMODO, DINO
from kdlosses.unit import unit


class PointEncoder(nn.Module):
    """A small PointNet: an MLP on each point, then maximum and mean over the points, invariant to their order.

    Batch normalisation follows each layer and the features: without it what all clouds have in common dominates, and
    all prototypes are equally near. In training a batch has at least two clouds.

    Args:
        in_channels: of a point.
        channels: of the feature of a cloud, twice the width of a point's.

    Raises:
        ValueError: an odd number of channels.

    >>> encoder, clouds = PointEncoder(channels=16).eval(), torch.rand(2, 40, 3)
    >>> torch.allclose(encoder(clouds), encoder(clouds.flip(1)), atol=1e-6)
    True
    """

    def __init__(self, in_channels: int = 3, channels: int = 256) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"point encoder: channels must be even, twice the width of a point's, got {channels}")
        self.channels, width = channels, channels // 2
        self.points = nn.Sequential(
            *(nn.Linear(in_channels, width), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()),
            nn.Linear(width, width),
        )
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, clouds: Tensor) -> Tensor:
        """Return the features `(B, channels)` of clouds `(B, n, in_channels)`."""
        each = self.points(clouds.flatten(0, 1)).unflatten(0, clouds.shape[:2])
        return self.norm(torch.cat([each.amax(1), each.mean(1)], 1))


class Branch(nn.Module):
    """An encoder with two heads: scores of prototypes, and a projection for the contrastive term.

    Scores are cosines, so that the length of a prototype has no effect.
    """

    def __init__(self, encoder: nn.Module, channels: int, prototypes: int, embedding: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, embedding))
        self.prototypes = nn.Parameter(torch.randn(prototypes, embedding))
        self.project = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, embedding))

    def forward(self, clouds: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of the prototypes `(B, K)` and projections `(B, E)`."""
        features = self.encoder(clouds)
        return unit(self.head(features), 1) @ unit(self.prototypes, 1).mT, self.project(features)


class PointDisCo(nn.Module):
    r"""Train a point-cloud encoder by self-distillation from global to local views, with a contrastive term.

    With two global views $g_1, g_2$ of each cloud and any number of local ones, S the student and T the average,

    $$ L = \mathrm{mean}_{g \in \{g_1, g_2\},\, v \neq g} \; \mathrm{dino}(S(v), T(g))
         + \mathrm{infonce}(S(g_1), T(g_2)), $$

    the latter against a queue of T's earlier projections: `comodo` with a teacher temperature so low that each cloud
    matches itself alone. The momentum rises from `momentum` to 1 as a cosine.

    Args:
        encoder: maps clouds `(B, n, C)` to features `(B, channels)` for any n; has an attribute `channels`.
        prototypes: K.
        embedding: width of the projections.
        queue: projections to keep.
        momentum: of the average at the start, in [0, 1).
        tau: temperature of the contrast.

    Attributes:
        student: the `Branch` that learns; `student.encoder` is the result of training.
        teacher: the moving average, not part of `parameters()` or `state_dict()`: a resumed run restarts it.

    Paper: after the abstract of "Distillation with Contrast is All You Need for Self-Supervised Point Cloud
    Representation Learning", 2022: self-distillation of the global shape and of the relation of global to local, with a
    contrastive term. All numbers, the two terms and the encoders are our own form: `PointEncoder`, and as in the paper
    a transformer, `densekd.bev.point_transformer.PointTransformer`.

    >>> model = PointDisCo(PointEncoder(channels=16), prototypes=32, embedding=8, queue=64)
    >>> loss = model([torch.rand(4, 30, 3), torch.rand(4, 30, 3), torch.rand(4, 9, 3)])
    >>> loss.backward()
    >>> model.update(progress=0.0)
    """

    def __init__(
        self,
        encoder: nn.Module,
        prototypes: int = 1024,
        embedding: int = 256,
        queue: int = 4096,
        momentum: float = 0.996,
        tau: float = 0.07,
    ) -> None:
        super().__init__()
        self.student = Branch(encoder, encoder.channels, prototypes, embedding)  # type: ignore[arg-type]
        self.teacher = MovingAverage("teacher", copy.deepcopy(self.student), momentum)
        self.teacher.update(self.student)
        self.momentum = momentum
        self.assign = DINO(prototypes)
        self.contrast = COMODO(embedding, queue, student_tau=tau, teacher_tau=1e-4)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Return L of views `(B, n_v, C)`, of which the first two are global.

        Raises:
            ValueError: fewer than two views.
        """
        if len(views) < 2:
            raise ValueError(f"point_disco needs two global views, got {len(views)} in all")
        mine = [self.student(view) for view in views]
        with torch.no_grad():
            its = [self.teacher.model(view) for view in views[:2]]
        pairs = [(v, g) for g in (0, 1) for v in range(len(views)) if v != g]
        assigned = self.assign(torch.cat([mine[v][0] for v, _ in pairs]), torch.cat([its[g][0] for _, g in pairs]))
        return assigned + self.contrast(mine[0][1], its[1][1])

    def _apply(self, fn: Any, recurse: bool = True) -> PointDisCo:
        self.teacher.model._apply(fn, recurse)  # to another device or precision
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Update the moving average after a step, at this share (0 to 1) of the training."""
        self.teacher.momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
        self.teacher.update(self.student)

    @torch.no_grad()
    def entropies(self, clouds: Tensor) -> tuple[float, float]:
        """Return the entropy of the teacher's mean assignment of clouds `(B, n, C)`, and the mean entropy, over log K.

        The first is 0 if all clouds have the same prototype; both are 1 if every assignment is uniform.
        """
        scores, _ = self.teacher.model(clouds)
        shares = ((scores - self.assign.centre) / self.assign.teacher_tau).softmax(1)
        most = math.log(shares.shape[1])
        mean, each = torch.special.entr(shares.mean(0)).sum(), torch.special.entr(shares).sum(1).mean()
        return mean.item() / most, each.item() / most
