from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.rules.balanced import balanced
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe()
def discovery(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    known: Sequence[int] | None = None,
    relation: float = 1.0,
    tau: float = 1.0,
    detach_weight: bool = False,
    mask: float = 0.2,
    balance: float = 0.5,
) -> History:
    r"""Discover new classes without their labels, kept to how a teacher of the known classes sees their nodes (Cr-KD).

    $$ L = \lambda \frac{1}{|V_K|} \sum_{i \in V_K} \mathrm{CE}(z^s_i, y_i) + (1 - \lambda) \Big(
         \frac{1}{2 |V_U|} \sum_{i \in V_U} \big( \mathrm{CE}(z^s(\tilde x_i), Q(\tilde x'_i))
         + \mathrm{CE}(z^s(\tilde x'_i), Q(\tilde x_i)) \big) + r \, \mathrm{crkd}_{i \in V_U}(z^s_i, z^t_i) \Big) $$

    $V_K$ are the nodes with a label of a known class. $V_U$ are the training nodes of other classes: that they are of
    none of the known ones is all that is read of them, their labels are not. $\tilde x, \tilde x'$ are two views, each
    with other features at 0. Q is what one view says of the new classes, evened out so that each has as many nodes, see
    `balanced`; the other view learns it, among all classes. `crkd` holds the student's distribution over the known
    classes to that of the teacher on the new nodes alone: clusters by themselves would lose it.

    The last epoch is kept: labels of validation nodes of new classes choose nothing. Outputs of new classes have no
    order; score them with `scoring=dict(type='matched_accuracy', known=...)`.

    Args:
        model: the student, trained in place, with an output for each known class and for each class to be found.
        lesson: with the logits of a teacher of the known classes: `teacher=dict(type='sage', known=[0, 1, 2])`.
        lam: weight of the labels; 1 is `supervised` on the known classes.
        known: numbers of the known classes; the first half if not given.
        relation: r; 0 clusters alone.
        tau: temperature of `crkd`.
        detach_weight: of `crkd`: keep the gradient away from how much a node is like the known classes.
        mask: share of the features that a view lacks.
        balance: temperature of Q.

    Raises:
        ValueError: all classes are known or none, no training node is of a new class, or of a known one, or a number
            is out of range.

    Paper: Gu et al., "Class-relation Knowledge Distillation for Novel Class Discovery", ICCV 2023. There the teacher is
    the student as it was after its training on the known classes, images are augmented, and the last layer compares
    directions. Masks, a graph network as the teacher and our weights are our own form; the swapped assignments are
    those of Fini et al., "A Unified Objective for Novel Class Discovery", ICCV 2021.
    """
    check_lam("discovery", lam)
    if not 0 <= mask < 1 or balance <= 0:
        raise ValueError(f"discovery: mask is a share from 0 to below 1, balance is above 0; got {mask} and {balance}")
    old = _mask_of(known, model.widths[-1])
    told = lesson.labels >= 0
    of_old = told & old[lesson.labels.clamp_min(0)]
    lesson = replace(lesson, labels=lesson.labels.masked_fill(~of_old, -1))  # from here on nobody has the others
    new = (told & ~of_old).nonzero().flatten()
    if not len(new):
        raise ValueError("discovery: no training node is of a class that is not known: there is nothing to discover")
    if lam > 0 and not of_old.any():
        raise ValueError("discovery: no training node is of a known class: give labels of these, or lam=0")
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.teacher_logits()
    relate = kdlosses.build(
        dict(type="crkd", known=old.nonzero().flatten().tolist(), tau=tau, detach_weight=detach_weight)
    )
    nothing = torch.zeros(())

    def view(x: Tensor) -> Tensor:
        kept = torch.rand(x.shape, generator=lesson.generator) >= mask
        return model(x * kept)

    def learned(logits: Tensor, other: Tensor) -> Tensor:
        target = balanced(other[:, ~old], balance)
        return -(target * logits.log_softmax(1)[:, ~old]).sum(1).mean()

    def loss(nodes: Tensor | slice) -> Tensor:
        mine = new[nodes]
        x = rows(lesson.x, mine).to_dense()
        one, other = view(x), view(x)
        found = (learned(one, other) + learned(other, one)) / 2
        if relation:
            found = found + relation * relate(model(x), rows(teacher, mine))
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * found

    return lesson.train(model, loss, len(new), evaluate=None)


def _mask_of(known: Sequence[int] | None, classes: int) -> Tensor:
    numbers = list(range(classes // 2) if known is None else known)
    if not all(isinstance(each, int) and 0 <= each < classes for each in numbers):
        raise ValueError(f"discovery: known holds numbers of classes, 0 to {classes - 1}, got {known}")
    old = torch.zeros(classes, dtype=torch.bool)
    old[numbers] = True
    if old.all() or not old.any():
        raise ValueError(f"discovery: some of the {classes} classes are known and some are not, got known={known}")
    return old
