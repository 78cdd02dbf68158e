from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.rules.dho import FoldedHeads
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(space=dict(share=Range(0.0, 1.0)))
def dho(
    model: MLP, lesson: Lesson, *, lam: float = 0.5, tau: float = 2.0, share: float = 0.5, sharp: float = 0.5
) -> History:
    r"""Dual-head optimisation: one head for the labels, one for the teacher; their predictions are mixed.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p'_i), \qquad
       z^\mathrm{deployed} = a z + \frac{1 - a}{b} z' $$

    Neither loss reaches the other's head. The paper adds the two predictions; here they are multiplied,
    $\propto q^a q'^{1-a}$, so that both heads fold into the one last layer that the student has
    (`graphkd.rules.FoldedHeads`), and the second head is linear, not a cosine, for the same reason. Epochs are
    selected by the folded head.

    Args:
        model: the student, trained in place; its last layer is the first head, and in the end both.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`; at 0 the second head is all there is.
        tau: temperature of the distillation.
        share: a, of the first head in the prediction.
        sharp: b, temperature of the second head in the prediction.

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025: both losses with weight 1, which is $\lambda = 0.5$ but for the step size.
    """
    check_lam("dho", lam)
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl, nothing = lesson.teacher_logits(), kdlosses.build(dict(type="kl", tau=tau)), torch.zeros(())
    last = cast(nn.Linear, model.layers[-1])
    second = nn.Linear(last.in_features, last.out_features, dtype=last.weight.dtype)
    for name in ("weight", "bias"):
        folded = FoldedHeads(getattr(second, name), share if lam > 0 else 0.0, sharp)
        parametrize.register_parametrization(last, name, folded)

    def loss(nodes: Tensor | slice) -> Tensor:
        x = rows(lesson.x, nodes)
        features = model.dropout(model.outputs(x)[-2]) if len(model.layers) > 1 else x
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * kl(second(features), rows(teacher, nodes))

    history = lesson.train(model, loss, len(lesson))
    model.eval()
    for name in ("weight", "bias"):
        parametrize.remove_parametrizations(last, name)
    return history
