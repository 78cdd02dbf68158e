from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.losses.mgd import MGD
from kdlosses import register
from kdlosses.reduce import weighted_mean


@register(name="af_dcd")
class AfDCD(nn.Module):
    r"""Augmentation-free dense contrast: generate the teacher's feature, and tell its parts apart within a patch.

    As in `mgd` the feature $\hat f$ is generated from the student's, of which a share of the positions is hidden. Both
    sides are then max-pooled and cut into patches of $p \times p$ positions, and the channels into G groups, so that a
    patch has $p^2 G$ vectors $v_{ig}$ of C / G numbers. The teacher's vector of the same position and group is the
    positive; those of all positions in the other groups are the negatives:

    $$ L = a \, \mathrm{mean}_i \| \hat f_i - f^t_i \|^2 - b \, \mathrm{mean}_i \sum_g \log
       \frac{e^{-d(i g, i g) / \tau}}{e^{-d(i g, i g) / \tau} + \sum_{j, h \ne g} e^{-d(i g, j h) / \tau}}, \qquad
       d(i g, j h) = \| \hat v_{ig} - v^t_{jh} \|_1. $$

    Vectors are not scaled to length 1: the scale of the teacher's features acts as a temperature. With one group there
    are no negatives, and the second term is 0.

    Args:
        channels: C, of both sides: unlike channels are aligned before. A multiple of `groups`.
        feature: a. Published: 2e-6 of the sum over positions for Cityscapes, 8e-6 for CamVid, 1e-6 for Pascal VOC and
            ADE20K, 5e-6 for COCO-Stuff. Times the positions there, at stride 8 of 512x1024, 360x360 and 512x512, it is
            0.0164, 0.0162, 0.0041 and 0.0205 here.
        contrast: b. Published: 0.005; 0.01 for CamVid, 0.04 for ADE20K.
        share: probability of a position to be hidden, in [0, 1).
        tau: temperature.
        groups: G.
        pool: side of the windows of the max pooling. Published: 4; for CamVid none, which is 1.
        patch: p. Rows and columns that do not fill a patch, at the bottom and at the right, have no contrast.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.

    Raises:
        ValueError: the channels are no multiple of the groups, or the map is smaller than a patch.

    Paper: Fan et al., "Augmentation-free Dense Contrastive Knowledge Distillation for Efficient Semantic Segmentation",
    NeurIPS 2023. Factor 1 of the contrast, as in the authors' code the mean over anchors times G; of the other term the
    number of positions, see above.

    >>> import torch
    >>> loss = AfDCD(channels=4, groups=2, pool=1, patch=2).eval()
    >>> f = torch.randn(2, 4, 5, 6)
    >>> loss(f, torch.zeros_like(f)) > loss(f, loss.masked.generate(f))
    tensor(True)
    """

    def __init__(
        self,
        channels: int,
        feature: float = 0.0164,
        contrast: float = 0.005,
        share: float = 0.75,
        tau: float = 0.07,
        groups: int = 16,
        pool: int = 4,
        patch: int = 4,
    ) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"af_dcd: share must be in [0, 1), got {share}")
        super().__init__()
        self.masked = MGD(channels, share)
        self.feature, self.weight_of_contrast, self.tau = feature, contrast, tau
        self.groups, self.pool, self.patch = groups, pool, patch

    def check_channels(self, channels: int) -> None:
        """Raise `ValueError` if so many channels cannot be split into the groups."""
        if channels % self.groups:
            raise ValueError(
                f"af_dcd: {channels} channels cannot be split into {self.groups} equal groups of at least one; "
                "choose groups=..."
            )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        made = self.masked.generate(self.masked.hide(student))
        return self.feature * weighted_mean((made - teacher).square().sum(1)) + self.weight_of_contrast * self.apart(
            made, teacher
        )

    def apart(self, made: Tensor, teacher: Tensor) -> Tensor:
        """Return the contrast of generated features with the teacher's."""
        ours, theirs = self._vectors(made), self._vectors(teacher)
        logits = torch.cdist(ours, theirs, p=1) / -self.tau
        group = torch.arange(logits.shape[1], device=logits.device) % self.groups
        itself = torch.eye(len(group), dtype=torch.bool, device=logits.device)
        left_out = (group.unsqueeze(0) == group.unsqueeze(1)) & ~itself
        surprise = logits.masked_fill(left_out, -math.inf).logsumexp(2) - logits.diagonal(dim1=1, dim2=2)
        return self.groups * weighted_mean(surprise)

    def _vectors(self, features: Tensor) -> Tensor:
        """Vectors of each patch `(patches, p p G, C / G)`, the groups of a position one after the other."""
        self.check_channels(features.shape[1])
        p = self.patch
        rows, columns = (side // self.pool // p for side in features.shape[2:])
        if not rows or not columns:
            raise ValueError(
                f"af_dcd: no patch of {p} x {p} positions fits into a map {tuple(features.shape)} pooled by "
                f"{self.pool}; choose a smaller pool=... or patch=..."
            )
        pooled = F.max_pool2d(features, self.pool) if self.pool > 1 else features
        cut = pooled[:, :, : rows * p, : columns * p].unflatten(3, (columns, p)).unflatten(2, (rows, p))
        vectors = cut.unflatten(1, (self.groups, -1)).permute(0, 3, 5, 4, 6, 1, 2)  # N, rows, columns, p, p, G, C / G
        return vectors.flatten(3, 5).flatten(0, 2)
