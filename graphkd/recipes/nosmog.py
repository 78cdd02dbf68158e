from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.data.positions import with_positions
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(
    inputs=with_positions,
    reads_edges=True,
    space=dict(relation=Range(1e-5, 0.1, log=True), adversary=Range(0.01, 1.0, log=True)),
)
def nosmog(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    relation: float = 1e-3,
    adversary: float = 0.1,
    eps: float = 0.04,
    steps: int = 5,
    draw: int | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> History:
    r"""NOSMOG: positional features, relational loss of hidden layers, and adversarial feature perturbations.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) + (1 - \lambda) \Big( \mathrm{KL}(x)
         + w \, \mathrm{rsd\_gram}(g(h^s), h^t) + a \max_{|\delta| \le \varepsilon} \mathrm{KL}(x + \delta) \Big),
       \quad \mathrm{KL}(x) = \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s(x_i)) $$

    with the last hidden layers h and a linear layer g with ReLU and dropout, which is dropped in the end. The relations
    are not scaled, they grow with the fourth power of $h^t$: w is chosen with the teacher. The attack starts anywhere
    within the bounds and takes steps of $\varepsilon / 4$ by the sign of the gradient; positions are attacked as well.
    All terms are taken in one optimiser step.

    In `train_student` and `distill` the student, and not the teacher, sees the positions of
    `graphkd.data.positions.with_positions` beside its features: its accuracy on unseen nodes then depends on whether
    they come with edges. Fitted as a classifier it sees what it is given.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and, for `relation`, its hidden layers.
        lam: weight of the labels; 1 is `supervised`, on the same input.
        relation: w; 0 needs no hidden layer.
        adversary: a.
        eps: bound of the attack, in units of the features.
        steps: of the attack; each costs a forward and a backward pass.
        draw: nodes to attack in a step; all if not given.
        inputs: options of `with_positions`, by which `train_student` makes the input; not read here.

    Raises:
        ValueError: an option is out of range, or the student or the teacher has no hidden layer to relate.

    Paper: Tian et al., "Learning MLPs on Graphs: A Unified View of Effectiveness, Robustness, and Efficiency", ICLR
    2023, with a = 0.1 and, graph by graph, its own w and eps. The authors' code weighs the whole sum of the three terms
    by $1 - \lambda$, too, but takes it and the labels in two optimiser steps an epoch, and relates $h^t$ as it is
    before the teacher's ReLU; here it is what the teacher tells, after it. Positions at a cold start are not defined
    there; zeros are our own.
    """
    check_lam("nosmog", lam)
    if min(relation, adversary, eps) < 0 or steps < 0 or (draw is not None and draw < 1):
        raise ValueError(
            "nosmog: relation, adversary, eps and steps are not negative and draw is at least 1, got "
            f"{relation}, {adversary}, {eps}, {steps} and {draw}"
        )
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl, gram = lesson.teacher_logits(), kdlosses.build("kl"), kdlosses.build("rsd_gram")
    nothing = torch.zeros(())
    last_layers = [hidden[-1] for hidden, _ in lesson.teachers() if hidden] if relation else []
    if relation and (not last_layers or len(model.layers) == 1):
        who = "student" if last_layers else "teacher"
        raise ValueError(f"nosmog: the {who} has no hidden layer to relate; pass relation=0 to do without")
    *_, inner = [model.in_features, *model.widths[:-1]]
    width = sum(layer.shape[1] for layer in last_layers)
    project = nn.Sequential(nn.Linear(inner, width), nn.ReLU(), nn.Dropout(model.dropout.p)) if relation else None
    trained = nn.ModuleList([model] if project is None else [model, project]).to(next(model.parameters()).dtype)

    def adversarial_loss(nodes: Tensor | slice) -> Tensor:
        ids = torch.arange(len(lesson))[nodes]
        if draw is not None and draw < len(ids):
            ids = ids[torch.randperm(len(ids), generator=lesson.generator)[:draw]]
        x, target = rows(lesson.x, ids).to_dense(), rows(teacher, ids)
        worst = attacked(x, lambda moved: kl(model(moved), target), eps, steps, lesson.generator)
        return kl(model(worst), target)

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        outputs = model.outputs(rows(lesson.x, nodes))
        total = kl(outputs[-1], rows(teacher, nodes))
        if project is not None:
            told = torch.cat([rows(layer, nodes) for layer in last_layers], dim=1)
            total = total + relation * gram(project(outputs[-2]), told)
        return total + adversary * adversarial_loss(nodes) if adversary else total

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    return lesson.train(trained, loss, len(lesson))


def attacked(x: Tensor, loss: Callable[[Tensor], Tensor], eps: float, steps: int, generator: torch.Generator) -> Tensor:
    """Projected gradient ascent on the features within `eps`: random start, steps of a quarter of `eps`.

    >>> attacked(torch.zeros(2), lambda x: (x * torch.tensor([1.0, -2.0])).sum(), 0.1, 8, torch.Generator())
    tensor([ 0.1000, -0.1000])
    """
    delta = eps * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)
    for _ in range(steps):
        delta.requires_grad_()
        (slope,) = torch.autograd.grad(loss(x + delta), delta)
        delta = (delta.detach() + eps / 4 * slope.sign()).clamp(-eps, eps)
    return x + delta
