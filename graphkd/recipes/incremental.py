from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe()
def incremental(
    model: MLP, lesson: Lesson, *, lam: float = 0.5, old: int | None = None, memory: int = 2, tau: float = 2.0
) -> History:
    r"""Class-incremental: new classes from labels, old ones from a teacher trained on those alone, plus a small memory.

    $$ L = \lambda \frac{1}{|V'|} \sum_{i \in V'} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL} \big( \mathrm{softmax}(z^t_{i,<o} / \tau) \,\|\,
           \mathrm{softmax}(z^s_{i,<o} / \tau) \big) $$

    over the o old classes alone. V' has every label of a new class and `memory` of each old one: too few for the last
    layer to hold the balance, which `weight_align` around this recipe restores.

    Args:
        model: the student, trained in place.
        lesson: with the logits of a teacher of the old classes: `teacher=dict(type='sage', known=[0, 1, 2, 3, 4])`.
        lam: weight of the labels.
        old: number o of old classes, the first ones; half of all if not given.
        memory: labels of each old class to keep.
        tau: temperature.

    Paper: Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020. There the
    teacher is the previous student and weighs as much as the old classes have share; here it is a graph network.
    """
    classes = model.widths[-1]
    old = classes // 2 if old is None else old
    check_lam("incremental", lam)
    if not 0 < old < classes or memory < 0:
        raise ValueError(f"incremental: 1 to {classes - 1} old classes and a memory of 0 or more, got {old}, {memory}")
    if old == 1 and lam < 1:
        raise ValueError("incremental: with one old class the teacher's softmax is constant; pass lam=1")
    labels = lesson.labels.clone()
    for known in range(old):
        members = (labels == known).nonzero().flatten()
        forgotten = torch.randperm(len(members), generator=lesson.generator)[memory:]
        labels[members[forgotten]] = -1
    if not (labels >= 0).any():
        raise ValueError(f"incremental: no labels of the classes from {old} on")
    task, teacher = replace(lesson, labels=labels), lesson.teacher_logits()
    kl = kdlosses.build(dict(type="kl", tau=tau))
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = task.hard_loss(model) if lam > 0 else nothing
        soft = kl(model(rows(lesson.x, nodes))[:, :old], rows(teacher, nodes)[:, :old]) if lam < 1 else nothing
        return lam * hard + (1 - lam) * soft

    return lesson.train(model, loss, len(lesson))
