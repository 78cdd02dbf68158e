from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import EdgeTargets, degree, drop_self_loops, neighbour_targets
from graphkd.sparse.rows import rows
from graphkd.sparse.sampling import keep_for_hard, similarity
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History, each_epoch
from kdlosses.rules.mixup import beta as drawn_beta
from kdlosses.space import Range

MODES = ("plain", "weight", "mixup")


@recipe(reads_edges=True, space=dict(alpha=Range(0.5, 50.0, log=True)))
def hgmd(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    tau: float = 1.0,
    alpha: float = 5.0,
    beta: float = 0.5,
    mode: Literal["plain", "weight", "mixup"] = "mixup",
    even: bool = False,
) -> History:
    r"""HGMD: nodes that are hard for the teacher also learn from similar, easier neighbours.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{|E'|} \sum_{(j \to i) \in E'} v_{ji} \, \mathrm{KL}(t_{ji} \,\|\, p^s_i) $$

    where $E'$ has every self-loop and, drawn anew in each epoch, edges with the probability $P_{ji}$ of
    `keep_for_hard`, whose $\alpha$ goes down to a hundredth in the course of the training. The first epoch takes all
    edges, with P = 1. Of the three modes

    - `plain` has $t_{ji} = p^t_j$ and v = 1;
    - `weight` has $t_{ji} = p^t_j$ and v in proportion to $c_{ij} P_{ji}$, 1 for a self-loop, with mean 1 over the
      edges that lead to i; c is the cosine of the teacher's two predictions;
    - `mixup` has v = 1 and $t_{ji} = (1 - w) p^t_i + w \, p^t_j$ with $w = P_{ji} b$ and b drawn from
      Beta($\beta$, $\beta$).

    Both p have temperature $\tau$; there is no factor $\tau^2$. Mixtures of two answers need not be formed: the KL to
    one and the mixture of the two KLs differ by what does not depend on the student, and the latter is summed here.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and the edges.
        lam: weight of the labels; 1 is `supervised`.
        tau: temperature.
        alpha: of P at the start; the greater, the more edges are kept.
        beta: of the Beta distribution, of `mixup` alone.
        mode: see above.
        even: False: the paper's mean over edges, in which a hub outweighs its neighbours. True: every node counts the
            same, all v at a node over $1 + d'_i$, the edges of E' that lead to it.

    Raises:
        ValueError: there is no such mode, or an option is out of range.

    Paper: Wu et al., "Teach Harder, Learn Poorer: Rethinking Hard Sample Distillation for GNN-to-MLP Knowledge
    Distillation", CIKM 2024; its mean over edges is the mean here (factor 1). `even` is our own.
    """
    check_lam("hgmd", lam)
    if mode not in MODES:
        raise ValueError(f"hgmd: mode is one of {', '.join(MODES)}, not {mode!r}")
    if not (alpha >= 0 and beta > 0):
        raise ValueError(f"hgmd: alpha must be at least 0 and beta positive, got {alpha} and {beta}")
    if lam == 1:
        return supervised(model, lesson)
    teacher = rows(lesson.teacher_logits())
    edges = drop_self_loops(lesson.edges())
    similar = similarity(teacher, edges)
    nothing = torch.zeros(())

    def drawn() -> EdgeTargets:
        if lesson.clock.epoch == 0:
            return targets_of(edges, similar, torch.ones_like(similar))
        now = alpha * 0.01**lesson.clock.progress
        keep = keep_for_hard(teacher, lesson.predict(model), similar, edges, now)
        kept = torch.bernoulli(keep, generator=lesson.generator).bool()
        return targets_of(edges[:, kept], similar[kept], keep[kept])

    def targets_of(edges: Tensor, similar: Tensor, keep: Tensor) -> EdgeTargets:
        if mode == "plain":
            weight, own = torch.ones_like(keep), torch.ones_like(teacher[:, 0])
        elif mode == "weight":
            weight, own = balanced(similar * keep, edges[1], len(teacher))
        else:
            weight = keep * drawn_beta(len(keep), lesson.generator, beta).to(keep.dtype)
            own = 1 + summed(1 - weight, edges[1], len(teacher))
        if even:
            share = 1 / (1 + degree(edges, len(teacher)).to(keep.dtype))
            weight, own = weight * share[edges[1]], own * share
        return neighbour_targets(teacher / tau, edges, weight, own)

    targets = each_epoch(lesson.clock, drawn)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = targets().loss(model(rows(lesson.x, nodes)) / tau, nodes)
        return lam * hard + (1 - lam) * soft

    return lesson.train(model, loss, len(lesson))


def balanced(weight: Tensor, target: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Weights of edges and self-loops (initially 1), scaled to mean 1 at each node.

    >>> balanced(torch.tensor([0.5, 0.5]), torch.tensor([0, 0]), nodes=2)
    (tensor([0.7500, 0.7500]), tensor([1.5000, 1.0000]))
    """
    scale = (1 + summed(torch.ones_like(weight), target, nodes)) / (1 + summed(weight, target, nodes))
    return weight * scale[target], scale


def summed(values: Tensor, target: Tensor, nodes: int) -> Tensor:
    """Values `(E,)` of edges summed at their targets, `(nodes,)`."""
    return values.new_zeros(nodes).index_add_(0, target, values)
