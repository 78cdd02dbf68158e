from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe()
def partition(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    loss: Any = "kl",
    by: Literal["confidence", "label"] = "confidence",
) -> History:
    r"""Distill into a trained student where the teacher is better; keep the student's own predictions elsewhere.

    First the student learns from the labels alone, as `supervised`. Then

    $$ L = \lambda \, \mathrm{CE} + (1 - \lambda) \, \mathrm{partition}(z^s, [z^t, z^0]) $$

    with $z^0$ what it said at that point, frozen, and the policy `partition`, in as many epochs again. Of several
    teachers the surest counts.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels in the second part; 1 is `supervised`.
        loss: inside of the policy.
        by: what is compared, see `kdlosses.policy.Partition`.

    Paper: Roth et al., "Fantastic Gains and Where to Find Them: On the Existence and Prospect of General Knowledge
    Transfer between Any Pretrained Model", ICLR 2024.
    """
    check_lam("partition", lam)
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.joined_logits()
    policy = kdlosses.build(dict(type="partition", loss=loss, by=by))
    first = supervised(model, lesson)
    start = lesson.predict(model)

    def step(nodes: Tensor | slice) -> Tensor:
        told = torch.cat([rows(teacher, nodes), start[nodes]], dim=1)
        soft = policy(model(rows(lesson.x, nodes)), told, **lesson.context(nodes, policy.needs))
        return (lam * lesson.hard_loss(model) if lam > 0 else 0) + (1 - lam) * soft

    history = lesson.train(model, step, len(lesson))
    history.seconds = first.seconds + history.seconds
    return history
