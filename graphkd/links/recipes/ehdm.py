from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.links.heuristics import Heuristic, Known
from graphkd.links.lesson import LinkLesson
from graphkd.links.network import LinkEnsemble
from graphkd.links.recipes.registry import LINK_RECIPES, link_recipe
from graphkd.spec import resolve
from graphkd.training.loop import History, Schedule

_POOL = 4096  # pairs that a heuristic is standardised on

Scorer = Callable[[Tensor], Tensor]


@link_recipe(network=LinkEnsemble)
def ehdm(
    model: LinkEnsemble,
    lesson: LinkLesson,
    *,
    heuristics: Sequence[Any] = ("common_neighbours", "adamic_adar", "resource_allocation", "shortest_path"),
    method: Any = "llp",
    scale: Literal["zscore", "none"] = "zscore",
    gate: bool = True,
) -> History:
    r"""EHDM: several MLPs, each taught by one heuristic over the training edges, joined by a gate.

    Member k learns by `method` from $t^k_{uv} = (h^k_{uv} - \mu_k) / \sigma_k$, the scores of a heuristic with the
    mean and the deviation that they have on pairs drawn once, half of them near each other. Then the members are
    frozen, and a gate learns from the edges alone:

    $$ p_{uv} = \sum_k w^k_{uv} \, \sigma(s^k_{uv}), \qquad w_{uv} = \mathrm{softmax}(g(x_u, x_v)), \qquad
       L_\mathrm{gate} = \mathrm{BCE}(p) $$

    With validation edges the gate is kept only if it scores better on them than the plain mean of the members, which is
    what the student is then. No graph network is needed, and none is read unless
    the lesson's own teacher is among the heuristics. A pair costs the student as many forward passes as it has members.

    Args:
        model: the student, trained in place.
        lesson: with the edges.
        heuristics: who teaches, by the names of `graphkd.links.HEURISTICS` or as `dict(type=name, **options)`;
            'teacher' is the teacher of the lesson.
        method: the recipe by which each learns, by name or as `dict(type=name, **options)`.
        scale: 'none' takes the scores as they are for logits, as the authors do: a count of common neighbours then
            makes nearly every difference one of certainty.
        gate: whether a gate is trained; without, the mean of the members is the student.

    Raises:
        KeyError: unknown heuristic or method; names the nearest.
        ValueError: no heuristic is given, or one scores all pairs the same.

    Paper: Qin et al., "Weak Models Can be Good Teachers: A Case Study on Link Prediction with MLPs", LoG 2025, with a
    penalty on the sum of the gate's weights, which is 1 whatever they are and is left out here. In its code the gate is
    multiplied by 0, so that it is the mean; contexts are drawn once, here anew in each step. Standardised scores and a
    gate that has to beat the mean are our own.

    >>> from graphkd.data import digits
    >>> from graphkd.links import LinkStudent, tran
    >>> split = tran(digits(), seed=0)
    >>> method = dict(type="ehdm", heuristics=["common_neighbours", "jaccard"], method=dict(type="llp", walks=1))
    >>> student = LinkStudent(hidden=(16,), epochs=2, method=method, random_state=0)
    >>> student = student.fit(split.x, split.train, teacher="common_neighbours")
    >>> len(student.network_.members)
    2
    """
    if isinstance(heuristics, str | Mapping) or not heuristics:
        raise ValueError(f"ehdm: heuristics is a list of at least one name or dict, got {heuristics!r}")
    if scale not in ("zscore", "none"):
        raise ValueError(f"ehdm: scale is 'zscore' or 'none', got {scale!r}")
    recipe, options = resolve("method", method, LINK_RECIPES)
    if recipe is ehdm:
        raise ValueError("ehdm: its members learn by a recipe of one student, such as 'llp'; got 'ehdm' once more")
    known = Known(lesson.edges, lesson.nodes)
    pool = _pool(lesson)
    scorers = [_standard(_named(each, lesson, known), each, pool, scale) for each in heuristics]
    model.grow(len(scorers))
    done: list[History] = []
    for k, scorer in enumerate(scorers):
        model.active = k
        done.append(recipe(model.members[k], dataclasses.replace(lesson, teacher=scorer), **options))
    model.active = None
    if len(scorers) > 1:
        done.append(_measured(lesson))
        if gate:
            done.append(_train_gate(model, lesson))
            mean, gated = (each.score for each in done[-2:])
            if mean is not None and gated is not None and gated <= mean:
                model.gate = None
                done[-1:-1] = [done.pop()]
    return dataclasses.replace(done[-1], seconds=[each for history in done for each in history.seconds])


def _named(spec: Any, lesson: LinkLesson, known: Known) -> Scorer:
    return lesson.teacher_scores() if spec == "teacher" else Heuristic(spec, lesson.edges, lesson.nodes, known)


def _pool(lesson: LinkLesson) -> Tensor:
    """Pairs of different nodes that scores are standardised on: as many near each other as any."""
    nodes = torch.randint(lesson.nodes, (_POOL,), generator=lesson.generator)
    near = lesson.walk(nodes, 2).T.flatten()
    strangers = torch.randint(lesson.nodes, near.shape, generator=lesson.generator)
    pairs = torch.stack([nodes.repeat(4), torch.cat([near, strangers])])
    return pairs[:, pairs[0] != pairs[1]]


def _standard(scorer: Scorer, spec: Any, pool: Tensor, scale: str) -> Scorer:
    """Scores with mean 0 and deviation 1 on the pool; or as they are."""
    scores = scorer(pool).double()
    if not scores.isfinite().all():
        raise ValueError(f"ehdm: {spec!r} gives scores that are NaN or infinite")
    mean, deviation = scores.mean().item(), scores.std().item()
    if deviation <= 1e-6 * max(1.0, abs(mean)):
        raise ValueError(
            f"ehdm: {spec!r} scores all {len(scores)} pairs that were drawn {mean:g}: there is nothing to learn from "
            "it on this graph; leave it out"
        )
    return scorer if scale == "none" else lambda pairs: (scorer(pairs) - mean) / deviation


def _measured(lesson: LinkLesson) -> History:
    """What the ensemble scores as it is: one epoch in which nothing moves."""
    nothing = nn.Linear(1, 1)
    return lesson.train(nothing, lambda batch: 0 * nothing.weight.sum(), 1, schedule=Schedule(epochs=1))


def _train_gate(model: LinkEnsemble, lesson: LinkLesson) -> History:
    gate = model.add_gate()
    model.members.eval()

    def loss(batch: Tensor | slice) -> Tensor:
        pairs, truth = lesson.labelled(batch)
        with torch.no_grad():
            each = torch.stack([member(lesson.x, pairs) for member in model.members], -1)
        return F.binary_cross_entropy_with_logits(model.joined(each, gate(lesson.x, pairs)), truth)

    return lesson.train(gate, loss, len(lesson))
