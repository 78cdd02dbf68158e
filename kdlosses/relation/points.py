from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdlosses.reduce import by_sample

View = Literal["batch", "sample", "pooled", "flat"]
"""What is related to what, see `points`."""


def points(
    student: Tensor,
    teacher: Tensor,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
    view: View = "batch",
    draw: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Reshape a pair to sets of points for relation losses.

    Args:
        student: `(N, C_s, *)`.
        teacher: `(N, C_t, *)`.
        weight: `(N, *)`.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.
        view: `batch`: every position of the batch, in one set; `sample`: the positions of each map or graph, a set
            each; `pooled`: the mean feature of each map or graph, in one set; `flat`: each map with all its features as
            one vector (masked positions zero), in one set, and each node as it is.
        draw: take that many points of each set, at random among those of positive weight, the same on both sides.

    Returns:
        student and teacher `(sets, points, C)` and weight `(sets, points)`; points of weight 0 are zero vectors.

    >>> s, t, w = points(torch.ones(2, 3, 4, 4), torch.ones(2, 5, 4, 4), view="sample")
    >>> s.shape, t.shape, w.shape
    (torch.Size([2, 16, 3]), torch.Size([2, 16, 5]), torch.Size([2, 16]))
    """
    if view not in ("batch", "sample", "pooled", "flat"):
        raise ValueError(f"view must be 'batch', 'sample', 'pooled' or 'flat', got {view!r}")
    if weight is None:
        weight = student.new_ones(student.shape[:1] + student.shape[2:])
    else:
        weight = weight.to(student.dtype)
        student, teacher = (x.masked_fill((weight == 0).unsqueeze(1), 0) for x in (student, teacher))
    if view == "batch":
        student, teacher = (x.movedim(1, -1).flatten(0, -2).unsqueeze(0) for x in (student, teacher))
        weight = weight.flatten().unsqueeze(0)
    elif view == "flat" and student.ndim > 2:
        root = weight.sqrt().unsqueeze(1)
        student, teacher = ((x * root).flatten(1).unsqueeze(0) for x in (student, teacher))
        weight = (weight > 0).flatten(1).any(1).to(student.dtype).unsqueeze(0)
    elif view == "flat":
        student, teacher, weight = student.unsqueeze(0), teacher.unsqueeze(0), weight.unsqueeze(0)
    else:
        student, teacher, each = by_sample(student, teacher, weight, batch)
        assert each is not None  # a weight went in
        student, teacher, weight = student.mT, teacher.mT, each
        if view == "pooled":
            share = _share(weight).unsqueeze(1)
            student, teacher = ((share @ x).mT.squeeze(2).unsqueeze(0) for x in (student, teacher))
            weight = (weight > 0).any(1).to(weight.dtype).unsqueeze(0)
    if draw is None or draw >= weight.shape[1]:
        return student, teacher, weight
    lot = torch.rand_like(weight).masked_fill(weight == 0, -1).topk(draw, dim=1).indices
    student, teacher = (x.gather(1, lot.unsqueeze(2).expand(-1, -1, x.shape[2])) for x in (student, teacher))
    return student, teacher, weight.gather(1, lot)


def centred_points(points: Tensor, weight: Tensor) -> Tensor:
    """Points minus the weighted mean of their set; points of weight 0 stay zero vectors.

    >>> centred_points(torch.tensor([[[1.0], [3.0], [0.0]]]), torch.tensor([[1.0, 1.0, 0.0]])).flatten()
    tensor([-1.,  1.,  0.])
    """
    mean = _share(weight).unsqueeze(1) @ points
    return (points - mean).masked_fill((weight == 0).unsqueeze(2), 0)


def _share(weight: Tensor) -> Tensor:
    return weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
