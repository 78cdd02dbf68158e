from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.terms import terms
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.experts import consensus
from kdlosses.rules.mixup import mixed
from kdlosses.rules.mixup import mixup as drawn
from kdlosses.space import Range


@recipe(asks=True, space=dict(share=Range(0.0, 1.0), alpha=Range(0.1, 10.0, log=True)))
def mixup(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.1,
    share: float = 1.0,
    alpha: float = 1.0,
    loss: Any = "std_kd",
    ask: bool = False,
) -> History:
    r"""Mixup of all or some nodes: features, labels and teacher predictions are mixed in the same proportion.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}\big(z^s(\tilde x_i), \tilde y_i\big)
         + (1 - \lambda) \, \ell\big(z^s(\tilde x), \log \tilde p^t\big), \qquad
       \tilde v_i = \kappa_i v_i + (1 - \kappa_i) v_{\pi(i)} $$

    with pairs and proportions drawn anew in each step, see `kdlosses.rules.mixup`. Labelled nodes are mixed among
    themselves; edges are not touched. With `ask` the teacher is asked about the mixed features, with which a node
    stands where it stood, as the paper's teacher sees mixed images: $z^t(\tilde x)$ in place of $\log \tilde p^t$.
    Without, its two predictions are mixed, which is our own form and needs no more than a cache.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels. 1 is the control: mixup all the same, and no teacher.
        share: of the nodes to mix in a step; 0 mixes none, the same method on clean data.
        alpha: of the Beta distribution.
        loss: between logits, what `kdlosses.build` takes.
        ask: whether the teacher is asked about the mixed features.

    Raises:
        ValueError: an option is out of range, there is no network to ask, or the loss needs labels or edges: a mixture
            of nodes has none.

    Paper: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study", WACV 2023, with
    `std_kd` and these weights; the option 0.9 of its code is `share=0.41`.
    """
    check_lam("mixup", lam)
    if share == 0:
        return terms(model, lesson, distills=[dict(loss=loss)], lam=lam)  # type: ignore[arg-type]
    teacher = lesson.teacher_logits() if lam < 1 else None
    live = lesson.live_teacher("mixup") if ask and lam < 1 else None
    between = kdlosses.build(loss)
    for name in set(between.requires) - {"progress", "epoch"}:
        raise ValueError(f"mixup: the loss {between.name!r} needs {name}, which a mixture of nodes does not have")
    told = lesson.labelled
    nothing = torch.zeros(())

    def hard_loss() -> Tensor:
        some = told[torch.randperm(len(told), generator=lesson.generator)[: lesson.batch_size]]
        partner, keep = drawn(len(some), lesson.generator, alpha, share)
        x, y = rows(lesson.x, some).to_dense(), lesson.labels[some]
        logits = model(mixed(x, x[partner], keep))
        one, other = (F.cross_entropy(logits, of, reduction="none") for of in (y, y[partner]))
        return mixed(one, other, keep).mean()

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        x, p = rows(lesson.x, nodes).to_dense(), rows(teacher, nodes).softmax(1)
        partner, keep = drawn(len(x), lesson.generator, alpha, share)
        moved = mixed(x, x[partner], keep)
        with torch.no_grad():
            target = (
                mixed(p, p[partner], keep).log() if live is None else consensus(live(moved, nodes), p.shape[1], "mixup")
            )
        return between(model(moved), target, **vars(lesson.clock))

    def step(nodes: Tensor | slice) -> Tensor:
        hard = hard_loss() if lam > 0 else nothing
        soft = soft_loss(nodes) if lam < 1 else nothing
        return lam * hard + (1 - lam) * soft

    return lesson.train(nn.ModuleList([model, between]), step, len(lesson))
