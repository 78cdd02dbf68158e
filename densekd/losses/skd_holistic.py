from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register, weighted_mean
from kdlosses.unit import length, unit


@register(name="skd_holistic", categorical=True, over_classes=True)
class SKDHolistic(nn.Module):
    r"""Holistic term of structured distillation: a critic learns to distinguish the student's maps from the teacher's.

    The critic D sees a whole map of class probabilities, p of the teacher or q of the student, and scores it:

    $$ L = \mathrm{mean}_n \big[ \max(0, 1 - D(p_n)) + \max(0, 1 + D(\bar q_n)) - \bar D(q_n) \big]. $$

    What is barred is detached: D learns by the first two terms, the student by the last. D is four convolutions of
    stride 2, each divided by its largest singular value, and a linear score of their output, averaged over the map. A
    position that does not count has no class on either side.

    Args:
        channels: C.
        hidden_channels: width after the first convolution, doubled by each of the others.

    `forward`:
        student: logits `(N, C, h, w)`.
        teacher: logits `(N, C, h, w)`.
        weight: `(N, h, w)`, positions to count: those of positive weight.

    Paper: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019. Factor 1, weight 0.1
    for student and critic; later code has 0.001 for the student. Differences: the paper's critic sees the image, too,
    the authors' code leaves it out, as here, and shows the critic logits in place of probabilities; theirs has
    self-attention in two layers and a learning rate of its own; its Wasserstein loss with a gradient penalty, which
    takes a second backward pass, gives way to the hinge loss, the other choice in their code.

    >>> import torch
    >>> loss = SKDHolistic(channels=3)
    >>> s, t = torch.zeros(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    >>> round(loss(s, t).item())  # undecided
    2
    """

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        widths = [channels, *(hidden_channels * 2**i for i in range(4))]
        self.layers = nn.ModuleList(map(_Bounded, widths, widths[1:]))
        self.score = nn.Linear(widths[-1], 1)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        q, p = student.softmax(1), teacher.softmax(1)
        images = None
        if weight is not None:
            counts = weight > 0
            q, p = q * counts.unsqueeze(1), p * counts.unsqueeze(1)
            images = counts.flatten(1).any(1)
        parts = [x for layer in self.layers for x in layer()]
        parts += [self.score.weight, self.score.bias]
        real, fake = _judge(torch.cat([p, q.detach()]), parts).chunk(2)
        fooled = _judge(q, [x.detach() for x in parts])  # what teaches the student must not reach the critic
        return weighted_mean(F.relu(1 - real) + F.relu(1 + fake) - fooled, images)


def _judge(maps: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Score of each map, by kernels and shifts in turn."""
    *layers, score, shift = parts
    for kernel, bias in zip(layers[::2], layers[1::2]):
        maps = F.leaky_relu(F.conv2d(maps, kernel, bias, stride=2, padding=1), 0.2)
    return F.linear(maps.mean((2, 3)), score, shift).squeeze(1)


class _Bounded(nn.Module):
    """Kernel and shift of a 3x3 convolution, the kernel, as a matrix, divided by its largest singular value."""

    u: Tensor  # its left singular vector, found by a step of power iteration in each training forward

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(out_channels, channels, 3, 3)))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("u", unit(torch.randn(out_channels), dim=0))

    def forward(self) -> tuple[Tensor, Tensor]:
        matrix = self.weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self.u.copy_(unit(matrix @ unit(matrix.mT @ self.u, dim=0), dim=0))
        return self.weight / length(matrix.mT @ self.u.clone(), dim=0), self.bias
