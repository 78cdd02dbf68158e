from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import masked, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.moving_average import move


@recipe()
def mean_teacher(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    loss: Any = "sce",
    momentum: float = 0.99,
    consistency: float = 1.0,
    hide: float = 0.2,
    taught: float = 0.0,
) -> History:
    r"""Mean teacher: the student also learns from the moving average of its own weights, on two views of every node.

    $$ L = \lambda \, \mathrm{CE} + (1 - \lambda) \Big( w \, \mathrm{KL}(p^t \,\|\, p^s)
         + \tfrac c2 \big( \ell(z^s(x), \bar z(x)) + \ell(z^s(\tilde x), \bar z(x)) \big) \Big), \quad
       \bar\theta \leftarrow m \bar\theta + (1 - m) \theta $$

    before each step, with $\bar z$ the average without dropout, and $\tilde x$ the features of which a share, drawn
    anew, is set to 0. With `sce` for $\ell$ the teacher's mistakes pull less than with the cross-entropy
    (`dict(type='sce', alpha=0.0)`). It needs no other teacher. See `kdlosses.adaptation` for the same at test time.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits only for `taught`.
        lam: weight of the labels; 1 is `supervised`.
        loss: $\ell$, what `kdlosses.build` takes.
        momentum: m, from 0 to less than 1.
        consistency: c; at 0 there is no average.
        hide: share of the features that the second view hides.
        taught: weight w of another teacher.

    Raises:
        ValueError: an option is out of range, or there is nothing to learn from.

    Paper: Doebler et al., "Robust Mean Teacher for Continual and Gradual Test-Time Adaptation", CVPR 2023, for the loss
    and the two views; Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
    """
    check_lam("mean_teacher", lam)
    if not (0 <= momentum < 1 and 0 <= hide < 1 and min(consistency, taught) >= 0):
        raise ValueError(
            "mean_teacher: momentum and hide are from 0 to less than 1, consistency and taught not negative, got "
            f"{momentum}, {hide}, {consistency} and {taught}"
        )
    if lam == 0 and taught == 0:
        raise ValueError("mean_teacher: with lam=0 and taught=0 the student hears itself alone; give one a weight")
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.teacher_logits() if taught > 0 else None
    alike, kl = kdlosses.build(loss), kdlosses.build("kl")
    average = copy.deepcopy(model).requires_grad_(False).eval()
    nothing, started = torch.zeros(()), False

    def consistent(x: Tensor, student: Tensor, context: dict[str, Any]) -> Tensor:
        nonlocal started
        if torch.is_grad_enabled():
            move(average, model, momentum if started else 0.0)
            started = True
        with torch.no_grad():
            told = average(x)
        view = model(masked(x, hide, lesson.generator))
        return 0.5 * (alike(student, told, **context) + alike(view, told, **context))

    def loss_of(nodes: Tensor | slice) -> Tensor:
        x = rows(lesson.x, nodes)
        student = model(x)
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = nothing if teacher is None else taught * kl(student, rows(teacher, nodes))
        if consistency > 0:
            soft = soft + consistency * consistent(x, student, lesson.context(nodes, alike.needs))
        return lam * hard + (1 - lam) * soft

    return lesson.train(nn.ModuleList([model, alike]), loss_of, len(lesson))
