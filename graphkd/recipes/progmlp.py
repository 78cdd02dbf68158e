from __future__ import annotations

import torch
from torch import Tensor

from graphkd.networks.cascade import Cascade, check_budget
from graphkd.recipes.adagmlp import divergence
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.spec import real
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.rules.mixup import mixed, mixup
from kdlosses.space import Range


@recipe(network=Cascade, space=dict(refine=Range(0.0, 1.0), mix=Range(0.0, 1.0)))
def progmlp(
    model: Cascade,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    members: int = 3,
    tau: float = 1.0,
    refine: float = 0.5,
    mix: float = 0.5,
    alpha: float = 0.5,
    confidence: float | None = 0.9,
    budget: float | None = None,
) -> History:
    r"""ProGMLP: students trained one after the other, each on top of the last; a node leaves once one is sure of it.

    Student k of K learns by

    $$ L_k = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^k_i, y_i)
         + (1 - \lambda) \Big( \sum_i w^k_i \, \mathrm{KL}_\tau(p^t_i \,\|\, p^k_i)
         + \mu \frac{1}{N} \sum_i \mathrm{KL}_\tau(\tilde p^t_i \,\|\, p^k(\tilde x_i)) \Big), $$
    $$ w^k_i = \frac{1 - \rho}{N}
         + \rho \frac{\mathrm{KL}(p^t_i \,\|\, p^{k - 1}_i)}{\sum_j \mathrm{KL}(p^t_j \,\|\, p^{k - 1}_j)}, \qquad
       \tilde v_i = \kappa_i v_i + (1 - \kappa_i) v_{\pi(i)}, \quad \kappa \sim \mathrm{Beta}(k a, k a), $$

    while those before it do not move: $z^k = z^{k - 1} + f_k(x, h^{k - 1})$, see `graphkd.networks.cascade.Cascade`. So

    - each builds on the last: it reads its hidden layer and corrects its logits, from no correction on;
    - distillation is refined: a student hears most of those nodes on which the last one is still far from the teacher;
      of the first all w are 1 / N;
    - mixtures of two nodes, features and the teacher's predictions alike, become harder: the later the student, the
      nearer the two shares are to one half.

    In prediction a node leaves after the first student whose greatest probability reaches `confidence`, or a threshold
    that meets a `budget`, which is found on the features of all seen nodes; no label is read for it.
    `student.network_.exits(x)` tells how many students each node asks, `student.network_.leave(confidence=...)` or
    `.leave(budget=..., x=x)` changes it at any time, and a saved or exported student has its exits. Each student has
    the whole schedule, its epoch is selected by its own predictions, and the history is that of the last.

    Args:
        model: the cascade, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`, with a single student.
        members: K.
        tau: temperature of the divergences in the loss, without a factor $\tau^2$; that in w is 1.
        refine: $\rho$; 0 weighs all nodes alike.
        mix: $\mu$; 0 mixes nothing.
        alpha: a.
        confidence: a probability at which a node leaves; None never does. Not read with a budget.
        budget: in its place, the mean number of students that a node asks, from 1 to K.

    Raises:
        ValueError: an option is out of range, or the student is no `Cascade`.

    Paper: Lu et al., "ProGMLP: A Progressive Framework for GNN-to-MLP Knowledge Distillation with Efficient
    Trade-offs", AAAI 2026. Published are the three parts, without code; all formulas here are our own form of them, and
    so is the rule by which a node leaves.
    """
    check_lam("progmlp", lam)
    if members < 1 or min(tau, alpha) <= 0 or not 0 <= refine <= 1 or not 0 <= mix < float("inf"):
        raise ValueError(
            "progmlp: members is at least 1, tau and alpha are positive, refine is from 0 to 1, mix from 0, got "
            f"{members}, {tau}, {alpha}, {refine} and {mix}"
        )
    if confidence is not None and real("progmlp: confidence", confidence) > 1:
        raise ValueError(f"progmlp: confidence is a probability, from 0 to 1, got {confidence}")
    if budget is not None:
        check_budget(budget, members)
    if not isinstance(model, Cascade):
        raise ValueError(f"progmlp: the student is a graphkd.networks.cascade.Cascade, not a {type(model).__name__}")
    del model.members[1:]  # of an earlier fit, in a method around this one
    model.leave()
    if lam == 1:
        return supervised(model, lesson)
    teacher, nothing, history = lesson.teacher_logits(), torch.zeros(()), History()
    weight, seconds = torch.full((len(lesson),), 1 / len(lesson), dtype=torch.float64), list[float]()
    for stage in range(1, members + 1):
        if stage > 1:
            weight = refined(lesson.predict(model), rows(teacher), refine)
            model.eval().add()

        def loss(nodes: Tensor | slice, stage: int = stage, weight: Tensor = weight) -> Tensor:
            some = lesson.some_labelled()
            hard = lesson.task.hard(model.last(rows(lesson.x, some)), lesson.labels[some]) if lam > 0 else nothing
            x, target = rows(lesson.x, nodes), rows(teacher, nodes)
            each = divergence(model.last(x), target, tau)
            soft = (len(lesson) * weight[nodes].to(each.dtype) * each).mean()  # a batch stands for all nodes
            if mix > 0:
                x, p = x.to_dense(), (target / tau).softmax(1)
                partner, keep = mixup(len(p), lesson.generator, stage * alpha)
                both = mixed(p, p[partner], keep).clamp_min(torch.finfo(p.dtype).tiny)
                logits = model.last(mixed(x, x[partner], keep))
                soft = soft + mix * divergence(logits, tau * both.log(), tau).mean()
            return lam * hard + (1 - lam) * soft

        history = lesson.train(model.members[-1], loss, len(lesson))
        seconds += history.seconds
    history.seconds = seconds
    model.leave(confidence=None if budget is not None else confidence, budget=budget, x=lesson.x)
    return history


def refined(student: Tensor, teacher: Tensor, share: float) -> Tensor:
    r"""Weights of nodes `(N,)`, whose sum is 1: $(1 - \rho) / N$, and $\rho$ shared out by the divergences.

    Args:
        student: logits `(N, C)` of the student before.
        teacher: logits `(N, C)`.
        share: $\rho$.

    >>> refined(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0]]), 0.5)  # the first is learnt
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    far = divergence(student.double(), teacher.double(), 1.0).clamp_min(0)
    even = torch.full_like(far, 1 / len(far))
    return (1 - share) * even + share * (far / far.sum() if far.sum() > 0 else even)
