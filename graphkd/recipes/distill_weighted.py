from __future__ import annotations

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.rules.similar import source_weights, task_similarity
from kdlosses.space import Range


@recipe(space=dict(power=Range(0.1, 10.0, log=True)))
def distill_weighted(
    model: MLP, lesson: Lesson, *, lam: float = 0.5, power: float = 1.0, nearest: bool = False
) -> History:
    r"""Distill several source models with their own label spaces, weighted by task similarity to the student.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \sum_e a_e \frac1N \sum_i \mathrm{KL}\big(p^{t_e}_i \,\|\, \mathrm{softmax}(H_e f_i)\big) $$

    where f is the student's last hidden layer and $H_e$ a linear head for source e, learnt beside the student and
    thrown away after. Own form of the weights: $a_e \propto \mathrm{sim}_e^p$ with the linear CKA between the last
    hidden layer of the source (its logits, if it has none) and the one-hot labels of the labelled nodes.

    Args:
        model: the student, trained in place; with a hidden layer.
        lesson: with the logits of the sources, of any number of classes each.
        lam: weight of the labels; 1 is `supervised`. At 0 nothing trains the student's own classes.
        power: p; 0 weighs all alike.
        nearest: leave the nearest source alone, as `distill_nearest` of the paper.

    Raises:
        ValueError: `lam` is no share, the student has no hidden layer, or nothing is labelled.

    Paper: Borup, Phoo, Hariharan, "Distilling from Similar Tasks for Transfer Learning on a Budget", ICCV 2023; there
    as cross-entropy: the same gradient.
    """
    check_lam("distill_weighted", lam)
    if lam == 1:
        return supervised(model, lesson)
    if len(model.widths) < 2:
        raise ValueError("distill_weighted: the student needs a hidden layer for the heads of the sources")
    told = lesson.labelled
    if not len(told):
        raise ValueError("distill_weighted: no node is labelled; labels are needed to weight the sources")
    sources = lesson.teachers()
    similarity = torch.stack(
        [
            task_similarity(rows(hidden[-1] if hidden else logits, told), lesson.labels[told], model.widths[-1])
            for hidden, logits in sources
        ]
    )
    weights = source_weights(similarity, power, nearest).tolist()
    used = [(weight, logits) for weight, (_, logits) in zip(weights, sources) if weight > 0]
    dtype = next(model.parameters()).dtype
    heads = nn.ModuleList(nn.Linear(model.widths[-2], logits.shape[1]).to(dtype) for _, logits in used)
    kl = kdlosses.build("kl")

    def loss(nodes: Tensor | slice) -> Tensor:
        features = model.outputs(rows(lesson.x, nodes))[-2]
        soft = [weight * kl(head(features), rows(logits, nodes)) for (weight, logits), head in zip(used, heads)]
        return (lam * lesson.hard_loss(model) if lam > 0 else 0) + (1 - lam) * torch.stack(soft).sum()

    return lesson.train(nn.ModuleList([model, heads]), loss, len(lesson))
