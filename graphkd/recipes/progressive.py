from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.policy.stages import check_ends


@recipe()
def progressive(
    model: nn.Module,
    lesson: Lesson,
    *,
    parts: Sequence[Any] = ((0.5, "all"), (1.0, "labelled")),
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Stages of a training, each on nodes of its own: general data first, those of the task last.

    In stage k, $u_{k-1} \le \mathrm{progress} < u_k$, a step of any method sees nodes of $V_k$ alone, all or as many as
    else. With `terms` and losses of the policy `stages` that have the same points of change, a stage has data,
    layers of the teacher and loss of its own. Labels are used as the method does.

    Args:
        model: the student, trained in place.
        lesson: what the method needs.
        parts: pairs of a point u of the training up to which the stage lasts, and its nodes: `all`; `labelled`, the
            data of the task; or a list of classes: the nodes that the teacher takes for one of these.
        method: a recipe that learns node by node.

    Raises:
        ValueError: the points do not rise to 1, a stage has no nodes, or the method does not learn node by node.

    Paper: Su et al., "ERNIE-Tiny: A Progressive Distillation Framework for Pretrained Transformer Compression", 2021:
    general texts, then those of the task. Which nodes are general is our own form, and the lengths of the stages.
    """
    inner, options = resolve("method", method, RECIPES)
    ends = check_ends("progressive", "parts", parts, "nodes")
    groups = [_nodes(each, lesson) for _, each in parts]
    generator = torch.Generator().manual_seed(lesson.generator.initial_seed() + 1)  # batches stay as they are

    def train(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int, **told: Any) -> History:
        if count != len(lesson):
            raise ValueError(
                f"progressive: the method learns from {count} samples of its own, not from each of the {len(lesson)} "
                "nodes: take another, such as 'glnn'"
            )

        def step(nodes: Tensor | slice) -> Tensor:
            stage = next((k for k, end in enumerate(ends) if lesson.clock.progress < end), len(ends) - 1)
            group = groups[stage]
            if group is None:
                return loss(nodes)
            if isinstance(nodes, slice):
                return loss(group)
            return loss(group[torch.randperm(len(group), generator=generator)[: len(nodes)]])

        return lesson.train(trained, step, count, **told)

    return inner(model, replace(lesson, train=train), **options)


def _nodes(which: Any, lesson: Lesson) -> Tensor | None:
    """The nodes of a stage, None for all."""
    if which == "all":
        return None
    if which == "labelled":
        found = lesson.labelled
    elif isinstance(which, list | tuple) and all(isinstance(each, int) for each in which):
        found = torch.isin(rows(lesson.teacher_logits()).argmax(1), torch.tensor(list(which))).nonzero().flatten()
    else:
        raise ValueError(f"progressive: nodes are 'all', 'labelled' or a list of classes, got {which!r}")
    if not len(found):
        raise ValueError(f"progressive: the stage with {which!r} has no nodes")
    return found
