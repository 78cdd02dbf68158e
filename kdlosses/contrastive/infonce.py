from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import View, points
from kdlosses.unit import unit


@register(categorical=True)
def infonce(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    symmetric: bool = False,
    ignore_index: int = 255,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""InfoNCE: classify which of all teacher points belongs to each student point.

    With $s_{ij} = \cos(f^s_i, f^t_j) / \tau$,

    $$ L = - \frac1n \sum_i \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}, $$

    in nats; log n if all are alike, and log n - L is a lower bound of the mutual information of the two sides. It is
    not least for a student equal to the teacher. Neighbouring pixels and linked nodes are negatives that ought not to
    be: `draw` points, or give labels. Pairs are held in blocks.

    Args:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        tau: temperature.
        symmetric: average with the other direction, in which points of the teacher look for the student's.
        ignore_index: label that marks a position to leave out.
        view: what the points are, see `kdlosses.relation.points`.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        labels: `(N, *)`, class indices; other points of one's own class are no negatives. Negative or `ignore_index`
            means weight 0. Only in views whose points are positions: `batch` and `sample`.
        batch: `(N,)`, graph of each node.

    Paper: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018. Factor 1.

    >>> import torch
    >>> infonce(torch.ones(4, 3), torch.ones(4, 3)).item()  # log(4)
    1.3862...
    """
    if labels is None:
        mine = student, teacher
    else:
        if view not in ("batch", "sample"):
            raise ValueError(f"infonce: labels are of positions, but in view {view!r} the points are not")
        labels, weight = labelled(labels, weight, ignore_index)
        # an extra channel carries the label through the view
        mine = student, torch.cat([teacher, labels.unsqueeze(1).to(teacher.dtype)], dim=1)
    student, teacher, weight = points(*mine, weight, batch, view, draw)
    classes = None
    if labels is not None:
        teacher, classes = teacher[..., :-1], teacher[..., -1]
    student, teacher = unit(student, dim=2), unit(teacher, dim=2)
    value = find_own(student, teacher, weight, classes, tau)
    if symmetric:
        value = 0.5 * (value + find_own(teacher, student, weight, classes, tau))
    return value


def find_own(anchors: Tensor, others: Tensor, weight: Tensor, classes: Tensor | None, tau: float) -> Tensor:
    """Mean cross-entropy of picking each anchor's own point among all others; see `infonce`.

    Args:
        anchors: vectors of length 1, `(sets, points, C)`.
        others: likewise; the own of an anchor stands where it does.
        weight: `(sets, points)`.
        classes: `(sets, points)`; others of the same class do not count. All count if not given.
        tau: temperature.
    """
    n = weight.shape[1]
    log_w = weight.log().clamp_min(torch.finfo(anchors.dtype).min / 4).unsqueeze(1)
    index = torch.arange(n, device=anchors.device).expand(weight.shape)

    def surprise(rows: Tensor, own: Tensor, place: Tensor) -> Tensor:
        logits = torch.baddbmm(log_w, rows / tau, others.mT)
        positive = (rows * own).sum(2) / tau
        if classes is not None:
            same = classes.gather(1, place).unsqueeze(2) == classes.unsqueeze(1)
            itself = place.unsqueeze(2) == index.unsqueeze(1)
            logits = logits.masked_fill(same, -torch.inf).where(~itself, positive.unsqueeze(2))
        return logits.logsumexp(2) - positive

    return weighted_mean(by_rows(surprise, anchors, others, index, columns=n), weight)
