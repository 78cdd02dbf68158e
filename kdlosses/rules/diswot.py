from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import count, labelled, weighted_mean
from kdlosses.relation.sp import sp


def diswot(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Score an untrained student by its similarity to an untrained teacher; higher is better, at most 0.

    $$ S = - L_\mathrm{sp}(h^s, h^t) - \frac{1}{C^2} \big\| \hat A^s - \hat A^t \big\|_F^2, \qquad
       A = G G^\top, \; \hat A_c = A_c / \|A_c\|, \; G = \sum_i w_i (q_i - e_{y_i}) h_i^\top / \sum_i w_i $$

    The first term compares which samples each finds alike, the second which classes: G `(C, d)` is the gradient that
    the cross-entropy of the labels has in a linear classifier on the features h, row by row the direction that a class
    is learnt in. Of a map each position is a sample. The size of both is independent of the width d of a network, so
    that students of any width and depth are ranked together, on as many samples. One batch and no training step;
    average over a few initialisations.

    Args:
        student: last features `(N, d, *)` and logits `(N, C, *)`.
        teacher: likewise, as many classes.
        labels: `(N, *)`, class indices; negative or `ignore_index` counts for the first term alone.
        ignore_index: label that marks a sample to leave out of the second term.
        weight: `(N, *)`, samples to count.

    Raises:
        ValueError: the numbers of classes differ, or there is one.

    Paper: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023. The rows
    of A are normalised here, and the difference is averaged over its entries; scores are only ranked.

    >>> import torch
    >>> one = torch.randn(8, 4), torch.randn(8, 3)
    >>> abs(round(diswot(one, one, torch.arange(8) % 3).item(), 6))
    0.0
    """
    if student[1].shape[1] != teacher[1].shape[1]:
        raise ValueError(
            f"diswot: the student has {student[1].shape[1]} classes, the teacher {teacher[1].shape[1]}; they must agree"
        )
    if student[1].shape[1] < 2:
        raise ValueError("diswot: it compares classes, of which a head of one sigmoid has one: give it two outputs")
    known, counted = labelled(labels, weight, ignore_index, student[1].shape[1])

    def classes_alike(features: Tensor, logits: Tensor) -> Tensor:
        features, logits = (each.movedim(1, -1).flatten(0, -2) for each in (features, logits))
        wrong = logits.softmax(1) - F.one_hot(known.flatten(), logits.shape[1])
        share = counted.flatten().to(wrong.dtype) / count(counted.to(wrong.dtype))
        gradient = (wrong * share.unsqueeze(1)).T @ features
        return F.normalize(gradient @ gradient.T, dim=1, eps=1e-30)

    semantic = weighted_mean((classes_alike(*student) - classes_alike(*teacher)).square())
    return -(sp(student[0], teacher[0], weight=weight) + semantic).detach()
