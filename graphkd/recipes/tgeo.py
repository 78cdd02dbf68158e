from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.terms import terms
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.class_means import class_means
from kdlosses.rules.fusion_ratio import FusionRatio
from kdlosses.rules.stratified import stratified


@recipe()
def tgeo(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float | None = None,
    loss: Any = "kl",
    held: float = 0.2,
    every: int = 5,
    ahead: float = 0.1,
    lr: float = 0.01,
    weight_decay: float = 0.5,
) -> History:
    r"""Trilateral geometry: a network learns the weight of the teacher against the label for each node.

    $$ L = \frac{1}{|V_L|} \sum_{i \in V_L} (1 - a_i) \, \mathrm{CE}(z^s_i, y_i) + \frac1N \sum_i a_i \, \ell_i,
       \qquad a_i = \mathrm{FusionRatio}(z^s_i, z^t_i, y_i), $$

    with the mean $\bar a$ of the labelled nodes in place of $a_i$ where there is no label. The ratio is learnt every so
    many epochs by looking one step ahead: with $\theta$ the student and $\phi$ the ratio network,

    $$ \phi \leftarrow \mathrm{AdamW}\big(\nabla_\phi L_H(\theta')\big), \qquad
       \theta' = \theta - \eta \nabla_\theta L(\theta, \phi), $$

    where $L_H$ is cross-entropy on held-out nodes H. These are a part of the training nodes whose labels the student
    never learns from; validation nodes are not touched.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: a fixed weight of the labels, $a_i = 1 - \lambda$, and nothing held out: `terms`, whose 1 is the control;
            learnt if not given.
        loss: $\ell$, what `kdlosses.build` takes: between logits, with a weight.
        held: share of the labelled nodes to hold out, class by class; each class keeps one at least.
        every: epochs from one step of the ratio network to the next.
        ahead: $\eta$, plain gradient descent.
        lr: learning rate of the ratio network.
        weight_decay: likewise.

    Raises:
        ValueError: `held` leaves nothing to hold out, or the loss takes no weight.

    Paper: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation", ICLR 2024,
    which averages over labelled samples, having no others. How it solves the bilevel problem was not read: the unrolled
    step is our form, and so are the settings of the ratio network. Those of a re-implementation, Adam with 0.1 and a
    decay of 0.05, gave all nodes the same ratio here.
    """
    if lam is not None:
        return terms(model, lesson, distills=[dict(loss=loss)], lam=lam)  # type: ignore[arg-type]
    if not 0 < held < 1 or every < 1:
        raise ValueError(f"tgeo: held is a share between 0 and 1 and every counts from 1, got {held} and {every}")
    soft = kdlosses.build(loss)
    if "weight" not in soft.needs:
        raise ValueError(f"tgeo: the loss {soft.name!r} has no argument weight, which is needed to weight the nodes")
    teacher, labels = lesson.teacher_logits(), lesson.labels
    told = lesson.labelled
    learnt = stratified(labels[told], 1 - held, lesson.generator)
    inner, outer = told[learnt], told[~learnt]
    if not len(outer):
        raise ValueError(f"tgeo: held={held} of {len(told)} labelled nodes, class by class, leaves none to hold out")
    is_inner = torch.zeros(len(lesson), dtype=torch.bool).index_fill(0, inner, True)
    taught = rows(teacher, inner)
    means, _ = class_means(taught.softmax(1), labels[inner], torch.ones(len(inner)), taught.shape[1])
    ratio = FusionRatio(taught.shape[1]).to(taught.dtype)
    optimiser = torch.optim.AdamW(ratio.parameters(), lr, weight_decay=weight_decay)
    shown = replace(lesson, labels=labels.index_fill(0, outer, -1))
    tuned = -1  # epoch of the last step of the ratio network

    def fused(nodes: Tensor | slice) -> Tensor:
        some = inner[torch.randperm(len(inner), generator=lesson.generator)[: lesson.batch_size]]
        logits = model(rows(lesson.x, some))
        a = ratio(logits, rows(teacher, some), labels[some], means)
        hard = ((1 - a) * F.cross_entropy(logits, labels[some], reduction="none")).mean()
        logits, target = model(rows(lesson.x, nodes)), rows(teacher, nodes)
        a = torch.where(is_inner[nodes], ratio(logits, target, labels[nodes].clamp_min(0), means), a.mean())
        return hard + a.mean() * soft(logits, target, weight=a, **shown.context(nodes, soft.needs))

    def tune(nodes: Tensor | slice) -> None:
        parameters = dict(model.named_parameters())
        each = tuple(parameters.values())  # some of a network of another recipe's may not be used
        slopes = torch.autograd.grad(fused(nodes), each, create_graph=True, materialize_grads=True)
        moved = {key: value - ahead * slope for (key, value), slope in zip(parameters.items(), slopes)}
        logits = torch.func.functional_call(model, moved, (rows(lesson.x, outer),))
        optimiser.zero_grad()
        F.cross_entropy(logits, labels[outer]).backward(inputs=list(ratio.parameters()))
        optimiser.step()

    def step(nodes: Tensor | slice) -> Tensor:
        nonlocal tuned
        if lesson.clock.epoch % every == 0 and lesson.clock.epoch != tuned:
            ratio.requires_grad_(True)
            tune(nodes)
            ratio.requires_grad_(False)
            tuned = lesson.clock.epoch
        return fused(nodes)

    return lesson.train(nn.ModuleList([model, soft]), step, len(lesson))
