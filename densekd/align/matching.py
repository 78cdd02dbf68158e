"""Which query of a teacher tells of the same as which of a student: a matching of least cost of the two sets."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from densekd.taps.queries import Layer, QueryHead
from kdlosses.ground import full
from kdlosses.resized import resized

COSTS = {"boxes": (5.0, 2.0), "masks": (5.0, 5.0)}
"""Weights of the two costs of shapes, those of the heads' own assigners: of boxes distance and overlap, of masks pixels
and dice."""
CLASSES = 2.0
"""Weight of the cost of classes."""


class Pairs(NamedTuple):
    """Queries of two sets that belong together, in the order of the student's.

    Attributes:
        student: numbers of the student's queries `(B, n)`, n the smaller of the two numbers of queries.
        teacher: those of the teacher's.
        score: the teacher's greatest probability of a class that is not background, `(B, n)`.
    """

    student: Tensor
    teacher: Tensor
    score: Tensor


class Matching:
    r"""Match queries of a student with those of a teacher by what they tell, image by image.

    The matching of least cost in sum, in which each query has at most one partner:

    $$ \hat\sigma = \arg\min_\sigma \sum_i c_{i \sigma(i)}, \qquad
       c_{ij} = 2 \sum_k |p^t_{ik} - p^s_{jk}| + s_i \, d_{ij}, \qquad s_i = \max_{k \ne \varnothing} p^t_{ik} $$

    with p the probabilities of classes, background $\varnothing$ among them where there is one softmax, and

    $$ d_{ij} = 5 \lVert b^t_i - b^s_j \rVert_1 + 2 (1 - \mathrm{GIoU}(b^t_i, b^s_j)) \quad \text{or} \quad
       d_{ij} = 5 \, \mathrm{KL}(m^t_i \Vert m^s_j) + 5 \Big( 1 - \frac{2 \langle m^t_i, m^s_j \rangle + 1}
                {\lVert m^t_i \rVert^2 + \lVert m^s_j \rVert^2 + 1} \Big) $$

    for boxes, centres and sizes b from 0 to 1, or for the probabilities m of masks, at the student's size, with the
    divergence of each pixel's sigmoid in the mean. Where the teacher sees no object, its box means nothing and hardly
    counts. Of more queries than the student has, the teacher's surest take part; of fewer, the student's that are left
    over have no partner. Nothing here has a gradient.

    Args:
        student: the student's head.
        teacher: the teacher's.
        class_map: for each of the student's classes the teacher's, without background; the same if not given.

    `__call__`:
        student: tensors of the student's tap.
        teacher: those of the teacher's.
        count: layers, the last ones of both decoders.

    Returns:
        For each layer, first to last, what it tells on both sides, and their `Pairs`.

    Raises:
        ValueError: the two have other classes and `class_map` is missing or wrong.

    The class cost of an assigner, which looks at the one class of a label, becomes the distance of two distributions;
    that, the factor $s_i$ and the squares in the dice are ours.

    Paper: Chang et al., "DETRDistill: A Universal Knowledge Distillation Framework for DETR-families", ICCV 2023, has
    the matching; costs and weights are those of Zhu et al., "Deformable DETR", ICLR 2021, and Cheng et al.,
    "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022.
    """

    def __init__(self, student: QueryHead, teacher: QueryHead, class_map: Sequence[int] | None = None) -> None:
        self.student, self.teacher = student, teacher
        self.class_map = _class_map(student, teacher, class_map)
        self.sigmoid = student.sigmoid or teacher.sigmoid
        self._known: list[weakref.ref[Tensor]] = []
        self._pairs: list[Pairs] = []

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: not what is remembered of one batch."""
        return {**vars(self), "_known": [], "_pairs": []}

    def logits(self, student: Layer, teacher: Layer) -> tuple[Tensor, Tensor]:
        """Class logits `(B, Q, K)` of both sides in full precision, of the same classes in the same form.

        Where one side has sigmoids, the softmax of the other is read as one class against all others.
        """
        its = full(teacher.classes.detach())
        if self.class_map is not None:
            its = its[..., self.class_map if self.teacher.sigmoid else [*self.class_map, self.teacher.classes]]
        return self._formed(full(student.classes), self.student.sigmoid), self._formed(its, self.teacher.sigmoid)

    def _formed(self, logits: Tensor, sigmoid: bool) -> Tensor:
        return logits if sigmoid == self.sigmoid else against_others(logits)[..., :-1]

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], count: int = 1
    ) -> list[tuple[Layer, Layer, Pairs]]:
        mine, its = (
            head.layers(levels)[-count:] for head, levels in ((self.student, student), (self.teacher, teacher))
        )
        given = [*student, *teacher]
        if len(self._known) != len(given) or any(known() is not each for known, each in zip(self._known, given)):
            self._known = [weakref.ref(each) for each in given]  # entries of one batch share what is found
            self._pairs = []
        if len(self._pairs) != len(mine):
            self._pairs = [self.match(*each) for each in zip(mine, its)]
        return list(zip(mine, its, self._pairs))

    @torch.no_grad()
    def match(self, student: Layer, teacher: Layer) -> Pairs:
        """Match what a layer tells on both sides."""
        p, q = (self._probabilities(each) for each in reversed(self.logits(student, teacher)))
        score = (p if self.sigmoid else p[..., :-1]).amax(2)
        kept = score.topk(min(p.shape[1], q.shape[1]), 1).indices.sort(1).values
        p, score = p.gather(1, kept.unsqueeze(2).expand(-1, -1, p.shape[2])), score.gather(1, kept)
        shapes = teacher.shapes[torch.arange(len(kept), device=kept.device)[:, None], kept]
        cost = CLASSES * torch.cdist(q, p, p=1) + score.unsqueeze(1) * self._of_shapes(student.shapes, shapes)
        own, its = zip(*(least(each) for each in cost))
        chosen = torch.stack(its)
        return Pairs(torch.stack(own), kept.gather(1, chosen), score.gather(1, chosen))

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.sigmoid else logits.softmax(2)

    def _of_shapes(self, student: Tensor, teacher: Tensor) -> Tensor:
        first, second = COSTS[self.student.shape]
        if self.student.shape == "boxes":
            mine, its = full(student), full(teacher)
            return first * torch.cdist(mine, its, p=1) + second * (1 - overlap(mine, its, aligned=False))
        return mask_cost(
            full(student), resized("queries", "masks of the teacher", full(teacher), student), first, second
        )


def least(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the matching of least cost `(n, m)`, each `(min(n, m),)`, in the order of the rows.

    Costs that are no numbers, of a student whose half precision overflowed, count as large ones.

    >>> rows, columns = least(torch.tensor([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    found = linear_sum_assignment(torch.nan_to_num(cost, 1e6, 1e6, -1e6).double().cpu().numpy())
    rows, columns = (torch.as_tensor(each, device=cost.device) for each in found)
    return rows, columns


def overlap(one: Tensor, other: Tensor, aligned: bool = True) -> Tensor:
    """Generalised intersection over union of boxes by centres and sizes.

    Args:
        one: `(*, n, 4)`.
        other: `(*, n, 4)`; `(*, m, 4)` if they are not aligned.
        aligned: compare each with the one at its place; else each with all.

    Returns:
        `(*, n)`, or `(*, n, m)`.
    """
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps

    corners = bbox_cxcywh_to_xyxy(one), bbox_cxcywh_to_xyxy(other)
    return bbox_overlaps(*corners, mode="giou", is_aligned=aligned, eps=1e-7)


def mask_cost(student: Tensor, teacher: Tensor, pixels: float, dice: float) -> Tensor:
    """Cost of each mask of a student with each of a teacher, see `Matching`.

    Args:
        student: logits `(B, n, h, w)`.
        teacher: logits `(B, m, h, w)`.
        pixels: weight of the divergence of pixels.
        dice: weight of the dice.

    Returns:
        `(B, n, m)`.
    """
    s, t = student.flatten(2), teacher.flatten(2)
    q, p = s.sigmoid(), t.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(t, p, reduction="none").mean(2)
    divergence = F.softplus(s).mean(2).unsqueeze(2) - s @ p.mT / s.shape[2] - entropy.unsqueeze(1)
    sizes = q.square().sum(2).unsqueeze(2) + p.square().sum(2).unsqueeze(1)
    return pixels * divergence + dice * (1 - (2 * q @ p.mT + 1) / (sizes + 1))


def against_others(logits: Tensor) -> Tensor:
    r"""Of each class of a softmax the logit against all others: $\sigma(z'_k) = \mathrm{softmax}(z)_k$.

    $$ z'_k = z_k - \log \sum_{j \ne k} e^{z_j} $$

    Args:
        logits: `(*, K)`, at least two classes.

    >>> z = torch.tensor([0.5, -1.0, 2.0])
    >>> torch.allclose(against_others(z).sigmoid(), z.softmax(0))
    True
    """
    classes = logits.shape[-1]
    others = logits.unsqueeze(-2).expand(*logits.shape[:-1], classes, classes)
    own = torch.eye(classes, dtype=torch.bool, device=logits.device)
    return logits - others.masked_fill(own, -torch.inf).logsumexp(-1)


def _class_map(student: QueryHead, teacher: QueryHead, class_map: Any) -> list[int] | None:
    if class_map is None:
        if student.classes != teacher.classes:
            raise ValueError(
                f"the student has {student.classes} classes, the teacher {teacher.classes}: give class_map=[...], the "
                "teacher's class for each"
            )
        return None
    given = list(class_map) if isinstance(class_map, Sequence) and not isinstance(class_map, str) else []
    right = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < teacher.classes for each in given)
    if len(given) != student.classes or not right:
        raise ValueError(
            f"class_map must hold a class from 0 to {teacher.classes - 1} for each of the student's {student.classes}, "
            f"without background, got {class_map!r}"
        )
    return given
