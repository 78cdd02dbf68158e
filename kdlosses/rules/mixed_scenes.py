from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.rules.mixup import mixed, mixup


def mixed_scenes(
    images: Tensor, labels: Tensor, generator: torch.Generator, alpha: float = 1.0, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Mixup of images with label maps, where a loss takes one label for each pixel.

    $$ \tilde x_i = \kappa_i x_i + (1 - \kappa_i) x_{\pi(i)}, \qquad
       \tilde y_{ip} = \begin{cases} y_{ip} & \text{with probability } \kappa_i \\
       y_{\pi(i) p} & \text{else} \end{cases} $$

    drawn anew for each pixel p, so that the expected cross-entropy is the one of the mixed labels,
    $\kappa_i \mathrm{CE}(z, y_i) + (1 - \kappa_i) \mathrm{CE}(z, y_{\pi(i)})$.

    Args:
        images: `(n, C, H, W)`.
        labels: `(n, H, W)`, or `(n,)` of whole images.
        generator: draws, see `kdlosses.rules.mixup`.
        alpha: of the Beta distribution.
        share: of the images to mix.

    Returns:
        mixed images and labels; those that are given stay as they are.

    Paper: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study", WACV 2023, for
    images with one label; the drawn label of a pixel is our own form.

    >>> images, labels = torch.zeros(2, 1, 4, 4), torch.arange(2).view(2, 1, 1).expand(2, 4, 4)
    >>> x, y = mixed_scenes(images, labels, torch.Generator().manual_seed(1))
    >>> x.shape, sorted(y.unique().tolist())
    (torch.Size([2, 1, 4, 4]), [0, 1])
    """
    partner, keep = mixup(len(images), generator, alpha, share)
    partner, keep = partner.to(images.device), keep.to(images.device)
    drawn = torch.rand(labels.shape, generator=generator).to(labels.device)
    own = drawn < keep.view(-1, *[1] * (labels.ndim - 1))
    return mixed(images, images[partner], keep), torch.where(own, labels, labels[partner])
