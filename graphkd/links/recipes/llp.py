from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.links.lesson import LinkLesson
from graphkd.links.recipes.link_supervised import link_supervised
from graphkd.links.recipes.registry import link_recipe
from graphkd.training.lesson import check_lam
from graphkd.training.loop import History


@link_recipe
def llp(
    model: nn.Module,
    lesson: LinkLesson,
    *,
    lam: float = 0.1,
    dist: float = 1.0,
    rank: float = 1.0,
    delta: float = 0.1,
    hops: int = 2,
    walks: int = 3,
    far: int = 1,
) -> History:
    r"""LLP: match the ranking and the distribution of the teacher's scores over near and far nodes of each anchor.

    $$ L = \lambda \, \mathrm{BCE} + (1 - \lambda) \bigl(d \; \mathrm{llp\_dist}(s, t)
         + r \; \mathrm{llp\_rank}(\sigma(s), \sigma(t))\bigr), \qquad s, t \in \mathbb{R}^{A \times S} $$

    with the logits of A anchors against contexts of S nodes each, drawn anew in every step: those on random walks over
    the edges to learn from, and f times as many uniformly. In a mini-batch of edges, anchors are as large a share of
    the nodes. A step costs O(A S^2).

    Args:
        model: the student `(x, pairs) -> logits`, trained in place.
        lesson: with the edges and a teacher that scores pairs.
        lam: weight of the edges as labels; 1 is `link_supervised`; at 0 they serve for the walks alone.
        dist: d, weight of the distributions.
        rank: r, weight of the ranks.
        delta: the margin of the ranks, in probability.
        hops: steps of a walk.
        walks: walks from an anchor; all their nodes count, so that S = hops walks (1 + far).
        far: f.

    Paper: Guo et al., "Linkless Link Prediction via Relational Distillation", ICML 2023. Its weights of the three terms
    are $\lambda$, $(1 - \lambda) d$ and $(1 - \lambda) r$ but for the step size, with both losses as means over
    anchors. Logits instead of probabilities in the softmax of the distributions are our own form.
    """
    check_lam("llp", lam)
    if lam == 1:
        return link_supervised(model, lesson)
    if hops * walks * (1 + far) < 2 or far < 0:
        raise ValueError(f"llp: a context needs at least two nodes, got hops={hops}, walks={walks}, far={far}")
    teacher = lesson.teacher_scores()
    llp_dist, llp_rank = kdlosses.build("llp_dist"), kdlosses.build({"type": "llp_rank", "delta": delta})

    def contexts(anchors: Tensor) -> Tensor:
        near = lesson.walk(anchors.repeat_interleave(walks), hops).view(len(anchors), -1)
        strangers = torch.randint(lesson.nodes, (len(anchors), far * near.shape[1]), generator=lesson.generator)
        return torch.cat([near, strangers], 1)

    def loss(batch: Tensor | slice) -> Tensor:
        anchors = lesson.anchors(batch)
        context = contexts(anchors)
        around = torch.stack([anchors[:, None].expand_as(context), context]).flatten(1)
        pairs, truth = lesson.labelled(batch) if lam > 0 else (around[:, :0], torch.zeros(0))
        logits, of_pairs = model(lesson.x, torch.cat([around, pairs], 1)).split([around.shape[1], pairs.shape[1]])
        s, t = logits.view_as(context), teacher(around).view_as(context)
        hard = F.binary_cross_entropy_with_logits(of_pairs, truth) if lam > 0 else torch.zeros(())
        return lam * hard + (1 - lam) * (dist * llp_dist(s, t) + rank * llp_rank(s.sigmoid(), t.sigmoid()))

    return lesson.train(model, loss, len(lesson))
