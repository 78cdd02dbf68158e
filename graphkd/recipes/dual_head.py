from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.rules.align_gradients import align_gradients
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.heads import head_spec


@recipe()
def dual_head(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    loss: Any = "dhkd",
    wide: int | None = 200,
    dropout: float = 0.1,
    align: bool = True,
) -> History:
    r"""Two heads on one body: the labels train the head that is kept, the teacher one that is dropped.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i) + (1 - \lambda) \, \ell(z', z^t) $$

    on the same hidden features. What of the second gradient opposes the first one on the body is taken away, see
    `graphkd.rules.align_gradients`, at the cost of a backward pass through the body for each of the two losses.

    The kept head sees labelled nodes alone: where these are few, distilling into it directly works better.

    Args:
        model: the student, trained in place; its last layer is the first head.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`.
        loss: of the second head, what `kdlosses.build` takes.
        wide: hidden width of the second head; None makes it linear.
        dropout: in the second head.
        align: align the gradients.

    Paper: Yang et al., "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head", 2024:
    CE plus `dhkd` with weight 1, which is $\lambda = 0.5$ but for the step size.
    """
    check_lam("dual_head", lam)
    if len(model.layers) < 2:
        raise ValueError("dual_head: the student needs a hidden layer for the second head")
    if lam == 1:
        return supervised(model, lesson)
    teacher, distill, nothing = lesson.teacher_logits(), kdlosses.build(loss), torch.zeros(())
    width, classes = model.widths[-2:]
    head = head_spec(dict(type="mlp", wide=wide, dropout=dropout) if wide else "linear")
    second = head.build(torch.zeros(2, width, dtype=next(model.parameters()).dtype), classes)
    body = [parameter for layer in list(model.layers)[:-1] for parameter in layer.parameters()]

    def step(nodes: Tensor | slice) -> Tensor:
        context = lesson.context(nodes, distill.needs)
        taken = {name: context[name] for name in distill.needs if name in context}
        features = model.last_features(rows(lesson.x, nodes))
        soft = (1 - lam) * distill(second(features), rows(teacher, nodes), **taken)
        hard = lam * lesson.hard_loss(model) if lam > 0 else nothing
        if not align or lam == 0:
            return hard + soft
        main, side = (torch.autograd.grad(part, body, retain_graph=True) for part in (hard, soft))
        change = [kept - whole for kept, whole in zip(align_gradients(side, main), side)]
        bend = torch.stack([(weight * by).sum() for weight, by in zip(body, change)]).sum()
        return hard + soft + (bend - bend.detach())  # adds 0 to the value, and the change to the gradient

    return lesson.train(nn.ModuleList([model, second]), step, len(lesson))
