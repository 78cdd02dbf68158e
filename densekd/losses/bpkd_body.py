from __future__ import annotations

from torch import Tensor

from densekd.losses.boundary import class_edges
from kdlosses import cwd, register


@register(over_classes=True)
def bpkd_body(
    student: Tensor,
    teacher: Tensor,
    label_map: Tensor,
    tau: float = 4.0,
    kernel: int = 7,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Bodies of boundary-privileged distillation: `cwd` away from the edges.

    With M the share of a cell that the edge band of a class covers, see `class_edges`,

    $$ L = \tau^2 \, \mathrm{mean}_{n,c} \, \mathrm{KL}\Big(\mathrm{softmax}_i \frac{(1 - M_{nic}) z^t_{nic}}{\tau}
       \,\Big\|\, \mathrm{softmax}_i \frac{(1 - M_{nic}) z^s_{nic}}{\tau}\Big), $$

    i over the positions of an image; they count as the share of their pixels that is labelled.

    Args:
        student: logits `(N, C, h, w)`.
        teacher: logits `(N, C, h, w)`.
        label_map: classes `(N, H, W)` at the size of the image.
        tau: temperature.
        kernel: side of the window that makes a band, in pixels of the label map, odd.
        ignore_index: label that does not count.
        weight: `(N, h, w)`, positions to count.

    Paper: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation", WACV 2024. Factor
    1, weight 20. See `bpkd_edge` on where the form is from; that ignored pixels do not count is our own. Of a head with
    one sigmoid the other class, whose logit is 0, adds nothing: the loss is half that of the one map.

    >>> import torch
    >>> s, t = torch.randn(2, 1, 3, 4, 4)
    >>> labels = torch.zeros(1, 8, 8, dtype=torch.long)  # one class has no edge
    >>> torch.equal(bpkd_body(s, t, labels), cwd(s, t, tau=4.0, weight=torch.ones(1, 4, 4)))
    True
    """
    mask, labelled = class_edges(label_map, student.shape[1], student.shape[2:], kernel, ignore_index)
    body, labelled = 1 - mask.to(student.dtype), labelled.to(student.dtype)
    return cwd(student * body, teacher * body, tau, labelled if weight is None else labelled * weight)
