from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.domain_weights import domain_weights


@recipe(reads_edges=True)
def ddk(
    model: nn.Module,
    lesson: Lesson,
    *,
    domains: Literal["class", "degree"] = "class",
    every: int = 5,
    smoothing: float = 0.5,
    floor: float = 0.2,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Domain sampling: draw more nodes from domains where the student is furthest behind its teacher.

    A step of any method sees nodes drawn with replacement, domain d with probability $w_d$ and within it all alike.
    Every E epochs $w$ follows `kdlosses.rules.domain_weights` for the losses

    $$ \ell^s_d = \frac{1}{|V_d|} \sum_{i \in V_d} H(p^t_i, p^s_i), \qquad
       \ell^t_d = \frac{1}{|V_d|} \sum_{i \in V_d} H(p^t_i), $$

    cross-entropy of student and teacher on what the teacher says, whose gap is $\mathrm{KL}(p^t \| p^s)$: no label is
    needed. Labelled nodes are used as the method does.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and, for domains by degree, the edges.
        domains: `class`, the one that the teacher predicts; or `degree`, four groups of nodes of like degree.
        every: E.
        smoothing: share of the old weights, see there.
        floor: share of w that is the same for all domains, see there.
        method: a recipe that learns node by node.

    Paper: after Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", 2024. What a domain
    of a graph is, and the form of the weights, are our own.
    """
    inner, options = resolve("method", method, RECIPES)
    if every < 1:
        raise ValueError(f"ddk: every counts epochs from 1, got {every}")
    teacher = lesson.teacher_logits()
    domain = _domains(domains, lesson)
    size = torch.bincount(domain)
    generator = torch.Generator().manual_seed(lesson.generator.initial_seed() + 1)  # batches stay as they are
    weights: Tensor | None = None
    weighed = -1  # epoch of the last estimate

    @torch.no_grad()
    def gap() -> Tensor:
        total = torch.zeros(len(size))
        for nodes in torch.arange(len(lesson)).split(65_536):
            log_q, log_p = lesson.predict(model, nodes).log_softmax(1), rows(teacher, nodes).log_softmax(1)
            total.index_add_(0, domain[nodes], F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1).float())
        return total / size

    def train(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        def step(nodes: Tensor | slice) -> Tensor:
            nonlocal weights, weighed
            if lesson.clock.epoch % every == 0 and lesson.clock.epoch != weighed:
                weights = domain_weights(gap(), torch.zeros(len(size)), weights, smoothing, floor)
                weighed = lesson.clock.epoch
            assert weights is not None
            number = count if isinstance(nodes, slice) else len(nodes)
            return loss(torch.multinomial((weights / size)[domain], number, True, generator=generator))

        return lesson.train(trained, step, count)

    return inner(model, replace(lesson, train=train), **options)


def _domains(kind: str, lesson: Lesson) -> Tensor:
    """Number of the domain of each node, from 0 on, none of them empty."""
    if kind == "class":
        found = rows(lesson.teacher_logits()).argmax(1)
    elif kind == "degree":
        degree = torch.bincount(lesson.edges()[1], minlength=len(lesson))
        quarters = torch.tensor([1, 2, 3]) * len(degree) // 4
        found = torch.bucketize(degree, degree.sort().values[quarters])
    else:
        raise ValueError(f"ddk: domains is 'class' or 'degree', not {kind!r}")
    return found.unique(return_inverse=True)[1]
