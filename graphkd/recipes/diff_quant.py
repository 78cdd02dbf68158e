from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.quantise import bake, quantise


@recipe()
def diff_quant(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.3,
    bits: int = 4,
    tau: float = 2.0,
    bucket: int = 256,
    ends: bool = True,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Differentiable quantisation: map a trained student's weights to the nearest of a few learned points.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^\theta_i \,\|\, p_i), \qquad z = f_{q_p(\theta)}(x) $$

    The student is taught by `method` in full precision and then teaches itself: $\theta$ is frozen, p learns, see
    `kdlosses.rules.LearntPoints`.

    Args:
        model: the student, trained in place.
        lesson: what the method needs.
        lam: weight of the labels, here and in the method.
        bits: of a weight, up to 16: there are $2^b$ points for each layer. 32 stops after the method.
        tau: temperature.
        bucket: weights that share a scale.
        ends: quantise the first and the last layer too.
        method: any recipe with an option `lam`.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018. Its KL is a mean over all
    elements: factor 1 / C. The points are learnt with the student's own learning rate.
    """
    inner, options = resolve("method", method, RECIPES)
    resolve("method", {"type": inner, "lam": lam}, RECIPES)
    if bits < 32:
        quantise(copy.deepcopy(model), bits, bucket, learnt=True, ends=ends)  # what is wrong is said before training
    history = inner(model, lesson, **{"lam": lam, **options})
    if bits >= 32:
        return history
    whole = copy.deepcopy(model).requires_grad_(False).eval()
    quantise(model, bits, bucket, learnt=True, ends=ends)
    kl = kdlosses.build(dict(type="kl", tau=tau))
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        x = rows(lesson.x, nodes)
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = kl(model(x), whole(x)) if lam < 1 else nothing
        return lam * hard + (1 - lam) * soft

    learnt = lesson.train(model, loss, len(lesson))
    learnt.seconds = history.seconds + learnt.seconds
    bake(model)
    return learnt
