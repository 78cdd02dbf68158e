from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.stratified import stratified


@recipe()
def pruned(
    model: nn.Module,
    lesson: Lesson,
    *,
    keep: float = 0.5,
    stratify: bool = True,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Data pruning: distill on a random part of the nodes, from a teacher trained on all of them.

    $$ L = L_\mathrm{method} \text{ on } V' \subset V, \qquad |V'| = k |V| $$

    Labelled and other nodes are drawn apart, the labelled ones class by class, and edges are kept between kept nodes.
    With `glnn` as method and $\lambda = 1 - \alpha$ that is the paper's mixture of cross-entropy and distillation:
    the fewer nodes are kept, the more its authors trust the teacher, up to $\alpha = 1$. An epoch goes through the kept
    nodes so many times that the number of updates stays that of all nodes.

    Args:
        model: the student, trained in place.
        lesson: what the method needs.
        keep: share k of the nodes; 1 is the method itself.
        stratify: keep the share of each class of the labelled nodes; else of all of them together.
        method: any recipe. With `lam=1`, or `supervised`, it is the control: the same data and no teacher.

    Raises:
        ValueError: `keep` is no such share.

    Paper: Ben-Baruch et al., "Distilling the Knowledge in Data Pruning", 2024. Random pruning is its baseline, which
    distillation makes competitive; scores to prune by are left out.
    """
    inner, options = resolve("method", method, RECIPES)
    if not 0 < keep <= 1:
        raise ValueError(f"pruned: keep is a share of the nodes, above 0 and at most 1, got {keep}")
    if keep == 1:
        return inner(model, lesson, **options)
    groups = lesson.labels + 1 if stratify else (lesson.labels >= 0).long()
    kept = stratified(groups, keep, lesson.generator).nonzero().flatten()

    def as_many_updates(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        return lesson.train(
            model, lambda nodes: loss(nodes if isinstance(nodes, slice) else nodes % count), len(lesson)
        )

    place = torch.full((len(lesson),), -1).index_put((kept,), torch.arange(len(kept)))
    edges = None if lesson.edge_index is None else place[lesson.edge_index]
    part = replace(
        lesson,
        x=rows(lesson.x, kept),
        labels=lesson.labels[kept],
        train=as_many_updates,
        teacher=None if lesson.teacher is None else rows(lesson.teacher, kept),
        edge_index=None if edges is None else edges[:, (edges >= 0).all(0)],
        hidden=[rows(layer, kept) for layer in lesson.hidden],
    )
    return inner(model, part, **options)
