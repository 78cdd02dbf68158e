from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from densekd.losses.boundary import class_edges
from kdlosses import register


@register(categorical=True, over_classes=True)
def bpkd_edge(
    student: Tensor,
    teacher: Tensor,
    label_map: Tensor,
    tau: float = 4.0,
    kernel: int = 7,
    alpha: float = 2.0,
    present: bool = False,
    cells: bool = False,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Edges of boundary-privileged distillation: match class probabilities on the edge band of each class.

    With $M \in [0, 1]$ the share of a cell that the band of a class covers, see `class_edges`,

    $$ \phi_i = \tau^2 \, \mathrm{KL}\Big(\mathrm{softmax}_c \frac{M_{ic} z^t_{ic}}{\tau} \,\Big\|\,
       \mathrm{softmax}_c \frac{M_{ic} z^s_{ic}}{\tau}\Big), \qquad
       L = \alpha \, \mathrm{mean}_n \sum_c \frac{\sum_i w_i M_{nic} \, \phi_{ni}}{\max(1, \sum_i w_i M_{nic})}, $$

    n images. Where a class has no band, it adds nothing. With `cells` the divisor is
    $\max(1, \sum_i w_i [M_{nic} > 0])$.

    Args:
        student: logits `(N, C, h, w)`.
        teacher: logits `(N, C, h, w)`.
        label_map: classes `(N, H, W)` at the size of the image.
        tau: temperature.
        kernel: side of the window that makes a band, in pixels of the label map, odd; published code has 7 and 5.
        alpha: factor.
        present: mean over the classes that have a band in an image in place of the sum.
        cells: divide by the number of cells that a band touches in place of the area that it covers there: the same at
            the size of the label map, about 1.4 times as much at a quarter of it.
        ignore_index: label that does not count.
        weight: `(N, h, w)`, positions to count.

    Paper: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation", WACV 2024. Factor
    1, weight 50. The authors' training code is not public; the form follows two independent re-implementations, which
    differ in `kernel`, `present` and `cells`. An ignored region has no edge here, in place of one against every class
    beside it.

    >>> import torch
    >>> labels, z = torch.tensor([[[0, 0, 1, 1]]]), torch.zeros(1, 2, 1, 4)
    >>> bpkd_edge(z, z + torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), labels, kernel=3).item() > 0
    True
    >>> bpkd_edge(z, z + 1, torch.zeros_like(labels)).item()  # one class has no edge
    0.0
    """
    mask, _ = class_edges(label_map, student.shape[1], student.shape[2:], kernel, ignore_index)
    mask = mask.to(student.dtype)
    log_q, log_p = F.log_softmax(student * mask / tau, dim=1), F.log_softmax(teacher * mask / tau, dim=1)
    phi = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1, keepdim=True)
    every = 1.0 if weight is None else weight.to(mask.dtype).unsqueeze(1)
    counted = mask * every
    area = (mask > 0) * every if cells else counted
    each = (phi * counted).sum((2, 3)) / area.sum((2, 3)).clamp_min(1)
    total = each.sum(1)
    if present:
        total = total / (counted > 0).any(3).any(2).sum(1).clamp_min(1)
    return alpha * tau**2 * total.mean()
