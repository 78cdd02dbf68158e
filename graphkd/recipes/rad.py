from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.rad import rad as strategy


@recipe()
def rad(
    model: nn.Module,
    lesson: Lesson,
    *,
    budget: float = 0.2,
    wrong: float = 0.05,
    rounds: int = 4,
    every: int = 5,
    select: Literal["rad", "random"] = "rad",
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Robust active distillation: query the teacher on few informative nodes, robust to wrong answers.

    In each of R rounds, E epochs apart, the student's uncertainty about every node not queried yet is the gain

    $$ g_i = 1 - (q_{i(1)} - q_{i(2)}) $$

    of a query, one minus the margin between its two most probable classes, and 1 / R of the budget is drawn without
    replacement from the distribution `kdlosses.rules.rad` for these gains. Then the method goes on with the answers so
    far. Labels of labelled nodes are free and are used as the method does.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        budget: share of the nodes to query in all; 1 queries all of them.
        wrong: share of the answers that is expected to be wrong, k over the number of nodes left.
        rounds: R; the first one uses an untrained student.
        every: E.
        select: `random` draws uniformly: what the strategy has to beat.
        method: a recipe that learns from the teacher node by node, its logits alone; another meets NaN.

    Raises:
        ValueError: an option is out of range.

    Paper: Baykal et al., "Robust Active Distillation", ICLR 2023. Margin, rounds and the share of wrong answers, which
    the paper takes from the teacher's accuracy, are ours.
    """
    inner, options = resolve("method", method, RECIPES)
    if not 0 < budget <= 1 or not 0 <= wrong < 1:
        raise ValueError(f"rad: budget in (0, 1] and wrong in [0, 1) are shares of the nodes, got {budget} and {wrong}")
    if rounds < 1 or every < 1:
        raise ValueError(f"rad: rounds and every count from 1, got {rounds} and {every}")
    if select not in ("rad", "random"):
        raise ValueError(f"rad: select is 'rad' or 'random', not {select!r}")
    if budget == 1:
        return inner(model, lesson, **options)
    teacher = rows(lesson.teacher_logits())
    generator = torch.Generator().manual_seed(lesson.generator.initial_seed() + 1)  # batches stay as they are
    answers = torch.full_like(teacher, torch.nan)  # what was not queried must not be seen
    goals = [max(1, round(budget * len(lesson) * (i + 1) / rounds)) for i in range(rounds)]
    asked = torch.empty(0, dtype=torch.long)

    def ask(count: int) -> None:
        nonlocal asked
        left = torch.ones(len(lesson), dtype=torch.bool).index_fill(0, asked, False).nonzero().flatten()
        p = torch.ones(len(left)) if select == "random" else strategy(_doubt(model, lesson, left), wrong * len(left))
        # where the strategy names fewer nodes than are to be queried, the rest comes from the others
        new = left[torch.multinomial(p.double() + 1e-12, count, generator=generator)]
        answers[new] = teacher[new]
        asked = torch.cat([asked, new])

    def train(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        def step(nodes: Tensor | slice) -> Tensor:
            goal = goals[min(lesson.clock.epoch // every, rounds - 1)]
            if goal > len(asked):
                ask(goal - len(asked))
            return loss(asked if isinstance(nodes, slice) else asked[nodes % len(asked)])

        return lesson.train(trained, step, count)

    return inner(model, replace(lesson, train=train, teacher=answers, hidden=(), parts=()), **options)


@torch.no_grad()
def _doubt(model: nn.Module, lesson: Lesson, nodes: Tensor) -> Tensor:
    best = lesson.predict(model, nodes).softmax(1).topk(2).values
    return 1 - (best[:, 0] - best[:, 1])
