from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import RECIPES, recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History


@recipe()
def tfkd_self(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    tau: float = 1.0,
    generations: int = 1,
    method: str | Mapping[str, Any] | Callable[..., History] = "supervised",
) -> History:
    r"""Self-distillation: each generation of the student is the teacher of the next.

    $$ L_k = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^{(k)}_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^{(k-1)}_i \,\|\, p^{(k)}_i) $$

    Each generation starts from new random parameters. With the labels alone for the first there is no other teacher
    anywhere: the control for what a graph adds to distillation as such. With `method='glnn'` the first one learns from
    the graph.

    Args:
        model: the student, trained in place; the last generation is left.
        lesson: what the method needs.
        lam: weight of the labels; 1 is `supervised`.
        tau: temperature.
        generations: how often the student is born again.
        method: recipe that the first generation is trained by.

    Paper: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020, where it is
    called Tf-KD self-training; Furlanello et al., "Born Again Neural Networks", ICML 2018. Its KL is a mean over all
    elements: factor 1 / C.
    """
    if not 0 <= lam <= 1 or generations < 1:
        raise ValueError(f"tfkd_self: lam from 0 to 1 and a generation or more, got lam={lam}, {generations}")
    inner, options = resolve("method", method, RECIPES)
    if lam == 1:
        return supervised(model, lesson)
    kl, nothing = kdlosses.build(dict(type="kl", tau=tau)), torch.zeros(())
    history = inner(model, lesson, **options)
    for _ in range(generations):
        teacher, seconds = copy.deepcopy(model).requires_grad_(False).eval(), history.seconds
        for layer in model.layers:
            layer.reset_parameters()  # type: ignore[operator]

        def loss(nodes: Tensor | slice, teacher: MLP = teacher) -> Tensor:
            x = rows(lesson.x, nodes)
            hard = lesson.hard_loss(model) if lam > 0 else nothing
            return lam * hard + (1 - lam) * kl(model(x), teacher(x))

        history = lesson.train(model, loss, len(lesson))
        history.seconds = seconds + history.seconds
    return history
