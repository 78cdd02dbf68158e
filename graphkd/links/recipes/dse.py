from __future__ import annotations

from torch import Tensor, nn

import kdlosses
from graphkd.links.lesson import LinkLesson
from graphkd.links.recipes.link_supervised import link_supervised
from graphkd.links.recipes.registry import link_recipe
from graphkd.training.lesson import check_lam
from graphkd.training.loop import History


@link_recipe
def dse(model: nn.Module, lesson: LinkLesson, *, lam: float = 0.5) -> History:
    r"""Distilled embeddings: reconstruct the scores that a teacher gives to pairs, from two nodes embedded alone.

    $$ L = \lambda \, \mathrm{BCE} + (1 - \lambda) \, \mathrm{mean}_{(u, v)} (s_{uv} - t_{uv})^2 $$

    over the edges of a step and as many sampled non-edges. A teacher that reads both nodes together, over the edges
    between them, must be run for each pair; the student's embeddings are computed once a node, and a pair costs the
    predictor alone.

    Args:
        model: the student `(x, pairs) -> logits`, trained in place.
        lesson: with the edges and a teacher that scores pairs.
        lam: weight of the edges as labels; 1 is `link_supervised`; at 0 they serve as pairs to be scored alone.

    Paper: Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020, there
    with $\lambda$ of 0.5 and a predictor on $[u, v, u v, |u - v|]$; that of `LinkMLP` is on $u v$, and symmetric.
    """
    check_lam("dse", lam)
    if lam == 1:
        return link_supervised(model, lesson)
    teacher, between = lesson.teacher_scores(), kdlosses.build("dse")
    hard = nn.BCEWithLogitsLoss()

    def loss(batch: Tensor | slice) -> Tensor:
        pairs, truth = lesson.labelled(batch)
        scores = model(lesson.x, pairs)
        soft = between(scores.unsqueeze(1), teacher(pairs).unsqueeze(1))
        return lam * hard(scores, truth) + (1 - lam) * soft if lam > 0 else soft

    return lesson.train(model, loss, len(lesson))
