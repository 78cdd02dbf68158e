from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.class_means import class_means
from kdlosses.contrastive.queues import Queues
from kdlosses.reduce import count, labelled, shares
from kdlosses.relation.blocks import sum_by_rows
from kdlosses.relation.points import points
from kdlosses.unit import unit


@register(name="cirkd_memory", match="positions", categorical=True)
class CIRKDMemory(nn.Module):
    r"""Cross-image relations to a memory: match each pixel's similarities to stored pixels and regions.

    The memory holds the teacher's features, of length 1, in a queue for each class: single pixels, and regions, which
    are the mean feature of a class in an image. With M the K of either kind that are drawn, as many of each class, and
    g a projection of the student to the teacher's channels,

    $$ a_i = \mathrm{softmax}_k(\cos(f^t_i, M_k) / \tau), \quad b_i = \mathrm{softmax}_k(\cos(g f^s_i, M_k) / \tau),
       \qquad L = \sum_{\text{pixels}, \text{regions}} \mathrm{mean}_i \, \mathrm{KL}(a_i \,\|\, b_i). $$

    In training mode the batch is stored first, at most `taken` pixels of each class in each image, at random, and the
    draw is random; in evaluation mode nothing is stored, and the draw is always the same. g is a linear map, batch
    normalisation over the pixels that count (on this device), ReLU and a linear map. Pairs are held in blocks.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        classes: number of classes.
        tau: temperature.
        pixels: places of each class for pixels; 20,000 for 19 classes of 512 channels take 390 MB, on the device and in
            each checkpoint.
        regions: places of each class for regions.
        pixel_draw: K of the pixels, of all classes together.
        region_draw: K of the regions.
        taken: pixels to take into the memory of each class and image.
        ignore_index: label that marks a position to leave out.

    `forward`:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        labels: `(N, h, w)`, class indices, which choose the queues of the memory; negative or `ignore_index` means
            weight 0.
        weight: `(N, h, w)`, positions to count, and to take into the memory.

    Paper: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022. Factor 1,
    weight 0.1 for both terms. The authors' code files arbitrary pixels of the image under a class, where here they are
    pixels of that class; starts from queues full of noise, where here empty places are not drawn; gathers the batches
    of all devices; and draws the same places of every queue.

    >>> import torch
    >>> loss = CIRKDMemory(student_channels=3, teacher_channels=4, classes=2, pixels=100, regions=10)
    >>> labels = torch.tensor([[[0, 0, 1], [0, 255, 1]]])
    >>> loss(torch.randn(1, 3, 2, 3), torch.randn(1, 4, 2, 3), labels) > 0
    tensor(True)
    >>> loss.pixels.taken.tolist(), loss.regions.taken.tolist()
    ([3, 2], [1, 1])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        classes: int,
        tau: float = 0.1,
        pixels: int = 20_000,
        regions: int = 2_000,
        pixel_draw: int = 4096,
        region_draw: int = 1024,
        taken: int = 16,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.pixels = Queues(classes, pixels, teacher_channels)
        self.regions = Queues(classes, regions, teacher_channels)
        self.widen = nn.Linear(student_channels, teacher_channels, bias=False)
        self.norm = _Norm(teacher_channels)
        self.project = nn.Linear(teacher_channels, teacher_channels, bias=False)
        self.classes, self.tau, self.taken, self.ignore_index = classes, tau, taken, ignore_index
        self.pixel_draw, self.region_draw = pixel_draw, region_draw

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        labels, weight = labelled(labels, weight, self.ignore_index, self.classes)
        s, t, w = points(student, teacher, weight)
        t = unit(t, dim=2)
        if self.training:
            self._remember(t[0], labels, w[0])
        s = unit(self.project(F.relu(self.norm(self.widen(s), w))), dim=2)
        terms = (self.pixels, self.pixel_draw), (self.regions, self.region_draw)
        return torch.stack([self._term(s, t, w, *each) for each in terms]).sum()

    def _term(self, s: Tensor, t: Tensor, w: Tensor, memory: Queues, number: int) -> Tensor:
        each = -(-number // self.classes)
        items, there = memory.draw(each, at_random=self.training)
        keys = items.to(s.dtype).flatten(0, 1).mT.unsqueeze(0)
        absent = keys.new_zeros(1, 1, there.numel()).masked_fill(~there.flatten(), torch.finfo(s.dtype).min / 4)

        def divergence(rows_s: Tensor, rows_t: Tensor, keys: Tensor) -> Tensor:
            log_b = torch.baddbmm(absent, rows_s / self.tau, keys).log_softmax(2)
            log_a = torch.baddbmm(absent, rows_t / self.tau, keys).log_softmax(2)
            return F.kl_div(log_b, log_a, reduction="none", log_target=True).sum(2)

        return sum_by_rows(divergence, shares(w), s, t, keys, columns=there.numel())

    @torch.no_grad()
    def _remember(self, features: Tensor, labels: Tensor, weight: Tensor) -> None:
        """Take in rows `(n, C_t)` with weight `(n,)`, n the positions of the labels `(N, h, w)`."""
        images, n, counts = len(labels), labels.numel(), weight > 0
        group = torch.arange(images, device=labels.device).view(-1, 1, 1) * self.classes + labels
        group, groups = group.flatten(), images * self.classes

        def by_class(each: Tensor) -> Tensor:
            """Lay `(groups, rows, *)` out as `(classes, rows of all images, *)`."""
            return each.unflatten(0, (images, self.classes)).transpose(0, 1).flatten(1, 2)

        # a random order within each class of each image, and last what does not count; of each group the first rows
        lot = group + torch.rand(n, dtype=torch.float64, device=group.device)
        order = lot.masked_fill(~counts, groups).argsort()
        number = torch.zeros_like(group[:1]).expand(groups).index_add(0, group, counts.long())
        slot = torch.arange(self.taken, device=group.device)
        first = (number.cumsum(0) - number).unsqueeze(1)
        row = order[(first + slot).clamp(max=n - 1)].masked_fill(slot >= number.unsqueeze(1), n).sort(dim=1).values
        self.pixels.push(by_class(features[row.clamp(max=n - 1)]), by_class(row < n))

        means, number = class_means(features, group, weight, groups)
        self.regions.push(by_class(unit(means, dim=1).unsqueeze(1)), by_class((number > 0).unsqueeze(1)))


class _Norm(nn.Module):
    """Batch normalisation over the rows that count."""

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.momentum, self.eps = momentum, eps

    def forward(self, rows: Tensor, weight: Tensor) -> Tensor:
        mean, var = self.mean, self.var
        if self.training:
            share = weight / count(weight)
            mean = share @ rows[0]
            var = share @ (rows[0] - mean).square()
            step = self.momentum * weight.any().to(mean.dtype)
            self.mean.lerp_(mean[0].detach(), step)
            self.var.lerp_(var[0].detach(), step)
        return (rows - mean) * (var + self.eps).rsqrt() * self.gain + self.shift
