from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphkd.recommendation.lesson import RecommendationLesson
from graphkd.recommendation.network import WeightedGCN
from graphkd.recommendation.recipes.registry import recommendation_recipe
from graphkd.training.loop import History


@recommendation_recipe
def pruned_supervised(
    model: WeightedGCN, lesson: RecommendationLesson, *, by: Literal["weight", "chance"] = "weight"
) -> History:
    r"""Prune by one's own weights, without a teacher: the control for students of `lightgnn`.

    Edges and entries go by the same steps as in `lightgnn`; the loss is `bpr` alone, an edge counts by its weight.

    Args:
        model: the student, trained in place.
        lesson: with the edges.
        by: what edges are kept by, their `weight`, or `chance`.

    Paper: Frankle and Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019, in
    which what is left starts from its first values; here the embedding goes on as it is.
    """

    def loss(batch: Tensor | slice) -> Tensor:
        return lesson.hard_loss(model(), batch)

    def strength(model: WeightedGCN) -> Tensor:
        return model.weight if by == "weight" else torch.rand(len(model.weight), generator=lesson.generator)

    return lesson.prune(model, loss, strength)
