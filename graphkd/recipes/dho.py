from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.with_output import WithOutput
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(network=WithOutput, space=dict(share=Range(0.0, 1.0)))
def dho(
    model: WithOutput, lesson: Lesson, *, lam: float = 0.5, tau: float = 2.0, share: float = 0.5, sharp: float = 0.5
) -> History:
    r"""Dual-head optimisation: one head for the labels, one for the teacher; their predictions are mixed.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p'_i), \qquad
       q_i = a \, \mathrm{softmax}(z_i) + (1 - a) \, \mathrm{softmax}(z'_i / b) $$

    Neither loss reaches the other's head. Both heads stay in the student, whose prediction is q: see
    `kdlosses.outputs.TwoHeads`. Epochs are selected by it.

    Args:
        model: the student, trained in place; its last layer becomes the first head of two.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`; at 0 the second head is all there is.
        tau: temperature of the distillation.
        share: a, of the first head in the prediction.
        sharp: b, temperature of the second head in the prediction.

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025: both losses with weight 1, which is $\lambda = 0.5$ but for the step size. There the second
    head is a cosine, times 100; here it is linear.
    """
    check_lam("dho", lam)
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl, nothing = lesson.teacher_logits(), kdlosses.build(dict(type="kl", tau=tau)), torch.zeros(())
    output: Any = model.give(dict(type="two_heads", share=share if lam > 0 else 0.0, tau=sharp))

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * kl(
            output.second(model.last_features(rows(lesson.x, nodes))), rows(teacher, nodes)
        )

    return lesson.train(model, loss, len(lesson))
