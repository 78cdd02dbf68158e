from __future__ import annotations

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.rules.votes import Votes
from kdlosses.space import Range


@recipe(space=dict(votes=Range(0.1, 10.0, log=True)))
def voting(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    k: int = 3,
    every: int = 1,
    votes: float = 1.0,
    taught: float = 1.0,
) -> History:
    r"""Self-distillation: the student also learns from the mean prediction of its own last snapshots.

    $$ L = \lambda \, \mathrm{CE} + (1 - \lambda) \Big( w \, \frac1N \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i)
         + v \, \frac1N \sum_i \mathrm{KL}\Big(\frac1K \sum_k p^{(k)}_i \,\Big\|\, p^s_i\Big) \Big) $$

    with $p^{(k)}$ the student as it was at the end of each of the last K times `every` epochs, without dropout. Before
    the first snapshot the term is 0. The predictions of the snapshots are kept in memory, K N C numbers.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits, but for `taught=0`.
        lam: weight of the labels; 1 is `supervised`.
        k: K.
        every: epochs from one snapshot to the next.
        votes: weight v; 0 is `glnn`.
        taught: weight w of the teacher; 0 reads none: the earlier steps of the student alone vote, as in the paper.

    Raises:
        ValueError: an option is out of range, or with `taught=0` and `lam=0` there is nothing to learn from.

    Paper: Zhu et al., "Improving Differentiable Architecture Search via Self-Distillation", 2023. How the votes
    are counted was not found: the uniform mean of K = 3 is our own form.
    """
    check_lam("voting", lam)
    if every < 1:
        raise ValueError(f"voting: every is a number of epochs, at least 1, got {every}")
    if taught == 0 and lam == 0:
        raise ValueError("voting: with taught=0 and lam=0 the student hears itself alone; give the labels a weight lam")
    teacher = lesson.teacher_logits() if taught > 0 else None
    kl = kdlosses.build("kl")
    past = Votes(k)
    nothing = torch.zeros(())
    taken = 0
    voted: Tensor | None = None

    def snapshot() -> None:
        nonlocal taken, voted
        epoch = lesson.clock.epoch
        if epoch != taken and epoch % every == 0:
            taken = epoch
            past.add(lesson.predict(model))
            voted = past.mean()

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        if lam == 1:
            return hard
        if votes > 0:
            snapshot()
        student = model(rows(lesson.x, nodes))
        soft = nothing if teacher is None else taught * kl(student, rows(teacher, nodes))
        if voted is not None:
            soft = soft + votes * kl(student, voted[nodes])
        return lam * hard + (1 - lam) * soft

    return lesson.train(model, loss, len(lesson))
