from __future__ import annotations

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from graphkd.training.task import TASKS


@recipe(tasks=TASKS)
def glnn(model: nn.Module, lesson: Lesson, *, lam: float = 0.0) -> History:
    r"""GLNN: distill the soft labels of a graph network on all nodes into an MLP.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i) $$

    Of several labels CE is the sum of their binary cross-entropies and KL is `binary_kl`; of numbers both are squared
    errors.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 0 never reads one, 1 is `supervised`.

    Paper: Zhang et al., "Graph-less Neural Networks: Teaching Old MLPs New Tricks via Distillation", 2022. The authors'
    code takes the two terms in two optimiser steps an epoch; this is one step on their sum, as the paper writes it.
    """
    check_lam("glnn", lam)
    teacher = lesson.teacher_logits()
    kl = kdlosses.build(lesson.task.soft)
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = kl(model(rows(lesson.x, nodes)), rows(teacher, nodes)) if lam < 1 else nothing
        return lam * hard + (1 - lam) * soft

    return lesson.train(model, loss, len(lesson))
