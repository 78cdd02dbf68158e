"""Cross-head distillation: the student's features go on through the teacher's head (one-stage detectors)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.losses.ld import ld
from densekd.methods.registry import method
from densekd.taps.dense_heads import Branch, DenseHead, heads_of
from densekd.taps.reader import at_rest
from kdlosses.ground import full
from kdlosses.reduce import sum_over


@method()
def crosskd(
    student: nn.Module,
    teacher: nn.Module,
    depth: int | None = None,
    classes: float = 1.0,
    boxes: float | None = None,
    beta: float = 1.0,
) -> list[dict[str, Any]]:
    """Hand features of the student's head to what follows in the teacher's, and match what that makes of its own.

    The student's predictions see its labels alone, so that labels and teacher do not contradict each other there; the
    teacher reaches the convolutions before. See `CrossHead`, `Quality` and `Overlap` for the three parts. Class logits
    of cross predictions and of the teacher are compared by a focal loss of quality; boxes by their overlap, or the
    distributions of a head such as GFL's by `ld` of temperature 1, where the teacher's score says how much they count.

    Args:
        student: a detector with the head of RetinaNet, ATSS, FCOS or GFL.
        teacher: another one of the same kind; its head may be wider.
        depth: convolutions of a stack that the student's features have passed; 0 hands over the neck. All but the last
            if not given, which are the published 3 of 4; published for FCOS: 2.
        classes: weight of the classes. Published for FCOS: 0.4.
        boxes: weight of the boxes: 4 for distributions, else 1, if not given. Published for FCOS, with the logarithm of
            the overlap: 0.75.
        beta: exponent of the focal factor.

    Raises:
        ValueError: a head is of another kind, the two heads differ in what they tell, or have fewer convolutions.

    Paper: Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024. Where widths
    differ, the 1x1 convolution that leads to the teacher's is ours. The centerness of ATSS, which the authors' code
    compares, too, is not; for FCOS it divides by the sum of centerness where this divides by the objects.
    """
    mine, its = heads_of("crosskd", student, teacher)
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise ValueError(f"method 'crosskd': depth is a number of convolutions, at least 0, got {depth!r}")
    distribution = mine.kind == "distribution"
    boxes = (4.0 if distribution else 1.0) if boxes is None else boxes
    if not (classes or boxes):
        raise ValueError("method 'crosskd': the weights of classes and of boxes are 0: nothing is compared")
    if distribution and student.bbox_head.reg_max != teacher.bbox_head.reg_max:  # type: ignore[union-attr]
        raise ValueError("method 'crosskd': the heads tell other bins a side: reg_max must agree")
    for side, model in (("student", student), ("teacher", teacher)):
        if not model.bbox_head.use_sigmoid_cls:  # type: ignore[union-attr]
            raise ValueError(
                f"method 'crosskd': the classes of the {side} share a softmax; it needs a sigmoid for each"
            )
    compare = Distances() if distribution else Overlap(student.bbox_head.num_classes)  # type: ignore[union-attr, arg-type]
    entries = []
    for name, weight, loss in (("classes", classes, Quality(beta)), ("boxes", boxes, compare)):
        if not weight:
            continue
        own, other = getattr(mine, name), getattr(its, name)
        before, after = _held("student", student, own, depth), _held("teacher", teacher, other, depth)
        cross = CrossHead(teacher, its, name, after[1], before[2], after[2])
        taps = [after[0], other.last, *([its.classes.last] if name == "boxes" else [])]
        entries.append(
            {
                "loss": loss,
                "student": before[0],
                "teacher": "+".join(taps),
                "weight": weight,
                "through": cross,
                "name": f"crosskd_{name}",
                "adapt": "none",
                "join": True,
            }
        )
    return entries


def _held(side: str, model: Any, branch: Branch, depth: int | None) -> tuple[str, int, int]:
    """Tap of what a branch holds before an activation, the convolutions passed by then, and its channels."""
    passed = max(1, branch.depth - 1) if depth is None else depth
    if passed > branch.depth:
        raise ValueError(
            f"method 'crosskd': depth={passed} is more than the {branch.depth} convolutions of the {side}'s "
            f"{branch.stack}"
        )
    if not passed:
        return "neck", 0, model.bbox_head.in_channels
    layer: Any = model.get_submodule(branch.stack)[passed - 1]
    if tuple(getattr(layer, "order", ())) != ("conv", "norm", "act"):
        raise ValueError(
            f"method 'crosskd': {branch.stack}.{passed - 1} of the {side} is a {type(layer).__name__}; it has to be a "
            "ConvModule of mmcv, whose activation comes last"
        )
    part = layer.norm_name if layer.with_norm else "conv"  # the activation overwrites it: a copy
    return f"{branch.stack}.{passed - 1}.{part}:copy", passed, layer.out_channels


class CrossHead(nn.Module):
    r"""What the rest of a teacher's head makes of a student's features, beside what it makes of its own.

    Features f of a level, before an activation, are brought to the teacher's scale, channel by channel over images and
    positions, and go on through the activation, the convolutions and the last layer that follow in the teacher:

    $$ \tilde f = \frac{f^s - \mu^s}{\sqrt{(\sigma^s)^2 + \epsilon^2}} \, \sigma^t + \mu^t, \quad \epsilon = 10^{-6}. $$

    The teacher's layers are frozen, as it is in evaluation, batch normalisation among them; the gradient passes them.
    They are no part of this module, whose state has at most the 1x1 convolution that leads to a teacher's width.

    Args:
        teacher: the detector.
        head: its head.
        name: branch, 'classes' or 'boxes'.
        passed: convolutions that the features have passed.
        width: channels of the student's features.
        its: channels of the teacher's.

    `forward`:
        student: features of each level `(B, C_s, h, w)`.
        teacher: features of each level `(B, C_t, h, w)`, then what its branch told of each, for boxes its class logits,
            too.

    Returns:
        Cross predictions and the teacher's, with an axis of the priors: class logits `(B, K, A, h, w)`; corners of
        boxes `(B, 4, A, h, w)` in pixels, or distributions `(B, 4 (n + 1), 1, h, w)`. And for boxes the teacher's
        largest class score of each `(B, A, h, w)`.
    """

    def __init__(self, teacher: Any, head: DenseHead, name: str, passed: int, width: int, its: int) -> None:
        super().__init__()
        branch: Branch = getattr(head, name)
        stack = list(teacher.get_submodule(branch.stack))
        self.head, self.name = head, name
        activate = stack[passed - 1].activate if passed and stack[passed - 1].with_activation else None
        layers = [*([activate] if activate is not None else []), *stack[passed:], teacher.get_submodule(branch.last)]
        self._of_teacher = Shared(teacher.bbox_head, layers)
        self.project = nn.Conv2d(width, its, 1) if width != its else None

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        levels = self.head.levels
        features, told, scores = ([each.detach() for each in teacher[i * levels :][:levels]] for i in range(3))
        cross = [self._cross(s, t) for s, t in zip(student, features)]
        mine, its = ([self._laid_out(each, i) for i, each in enumerate(side)] for side in (cross, told))
        if self.name == "classes":
            return mine, its, None
        return mine, its, [torch.sigmoid(self._by_prior(each).float()).amax(1) for each in scores]

    def _cross(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.project is not None:
            student = self.project(student)
        found = aligned(student, teacher)
        for layer in self._of_teacher.layers:
            frozen = {name: each.detach() for name, each in layer.named_parameters()}
            with at_rest(layer):  # that of a teacher that learns, too: its statistics are those of its own features
                found = torch.func.functional_call(layer, frozen, (found,))
        return found

    def _by_prior(self, maps: Tensor) -> Tensor:
        """`(B, A C, h, w)` as `(B, C, A, h, w)`."""
        return maps.unflatten(1, (self.head.priors, -1)).transpose(1, 2)

    def _laid_out(self, told: Tensor, level: int) -> Tensor:
        """What the last layer tells, as predictions of each prior."""
        if self.name == "classes":
            return self._by_prior(told)
        of: Any = self._of_teacher.head
        if hasattr(of, "scales"):
            told = told * of.scales[level].scale.detach()
        told = full(told)
        if self.head.kind == "distribution":
            return told.unsqueeze(2)
        if self.head.kind == "points":
            stride = of.prior_generator.strides[level][0]
            told = told.clamp_min(0) * stride if of.norm_on_bbox else told.exp()
        size = tuple(told.shape[2:])
        priors = of.prior_generator.single_level_grid_priors(size, level, dtype=told.dtype, device=told.device)
        rows = self._by_prior(told).permute(0, 3, 4, 2, 1)  # images, then places and priors as they are listed
        decoded = of.bbox_coder.decode(priors.repeat(len(told), 1), rows.reshape(-1, 4))
        return getattr(decoded, "tensor", decoded).view(rows.shape).permute(0, 4, 3, 1, 2)


class Shared:
    """Parts of a teacher, which a copy of their holder shares, as it does the teacher."""

    def __init__(self, head: nn.Module, layers: Sequence[nn.Module]) -> None:
        self.head, self.layers = head, list(layers)

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """Bring each channel of maps `(B, C, h, w)` to the teacher's mean and deviation over images and positions.

    Statistics are in full precision. A channel that is the same everywhere becomes the teacher's mean.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <...>
    >>> s, t = torch.randn(2, 3, 4, 4), 5 + torch.randn(2, 3, 4, 4)
    >>> torch.allclose(aligned(9 * s - 2, t), aligned(s, t), atol=1e-4), torch.allclose(aligned(t, t), t, atol=1e-4)
    (True, True)
    """
    s, t = full(student), full(teacher.detach())
    axes = (0, 2, 3)
    variance, mean = torch.var_mean(s, axes, correction=0, keepdim=True)
    its_variance, its_mean = torch.var_mean(t, axes, correction=0, keepdim=True)
    found = (s - mean) * (variance + 1e-12).rsqrt() * its_variance.sqrt() + its_mean
    return found.to(student.dtype)


class Quality(nn.Module):
    r"""Focal loss of quality between sigmoids: cross-entropy, weighted by how far the two are apart.

    $$ L = \frac{1}{\max(1, P)} \sum_{i : y_i \ge 0} \sum_c |q_{ic} - p_{ic}|^\beta \,
           \big( - p_{ic} \log q_{ic} - (1 - p_{ic}) \log (1 - q_{ic}) \big), \quad
       p = \sigma(z^t), \; q = \sigma(z^s) $$

    over all priors that are not ignored, with P the number of those with an object.

    Args:
        beta: exponent, at least 0; at 0 a perfect student still pays the entropy.

    `forward`:
        student: logits `(N, K, *)`, one sigmoid a class.
        teacher: logits `(N, K, *)`.
        labels: `(N, *)`, class of each prior; K, after the last, is background, a negative one is ignored.

    >>> z, labels = torch.tensor([[0.0], [0.0]]), torch.tensor([0, -1])
    >>> Quality()(z, z, labels).item(), round(Quality()(z, z + 50, labels).item(), 4)  # log(2) / 2
    (0.0, 0.3466)
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 <= beta < float("inf"):
            raise ValueError(f"method 'crosskd': beta must be a finite number of at least 0, got {beta!r}")
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        s, p = full(student), torch.sigmoid(full(teacher.detach()))
        each = F.binary_cross_entropy_with_logits(s, p, reduction="none")
        if self.beta:
            each = (torch.sigmoid(s) - p).abs().pow(self.beta) * each
        return sum_over(each.sum(1), (labels >= 0) & (labels < s.shape[1]), labels >= 0)


class Overlap(nn.Module):
    r"""Generalised intersection over union of two boxes at each prior.

    $$ L = \frac{1}{\max(1, P)} \sum_{i : y_i \ge 0} w_i \Big( 1 - \frac{|A_i \cap B_i|}{|A_i \cup B_i|}
         + \frac{|C_i| - |A_i \cup B_i|}{|C_i|} \Big) $$

    with C the smallest box around A and B, and P the number of priors with an object. Where the teacher's box has no
    area, nothing is compared.

    Args:
        classes: how many there are; a label beyond is background.

    `forward`:
        student: corners `(N, 4, *)`.
        teacher: corners `(N, 4, *)`.
        labels: `(N, *)`, class of each prior; a negative one is ignored.
        weight: `(N, *)`, how much each counts.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        from mmdet.structures.bbox import bbox_overlaps

        mine, its = (full(each).movedim(1, -1).reshape(-1, 4) for each in (student, teacher.detach()))
        alike = bbox_overlaps(mine, its, mode="giou", is_aligned=True, eps=1e-7).view(labels.shape)
        told = (its[:, 2:] > its[:, :2]).all(1).view(labels.shape)
        return sum_over(1 - alike, (labels >= 0) & (labels < self.classes), weight * (told & (labels >= 0)))


class Distances(nn.Module):
    """The loss `ld` of temperature 1, where a prior is not ignored."""

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return ld(student, teacher, tau=1.0, weight=weight * (labels >= 0))
