from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.rules.feature_mask import FeatureMask
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe()
def hard(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    loss: Any = "kl",
    bound: float = 0.2,
    up: float = 2.0,
    low: float = 1.0,
    lr: float = 0.01,
    steps: int = 2,
) -> History:
    r"""Hard augmentation: train on adversarial feature masks that maximise the gap between student and teacher.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \, D\big(g_\phi(x)\big), \qquad D(x) = \ell\big(z^s(x), z^t\big), $$

    with $g_\phi$ a `FeatureMask`, the identity at first. The two take turns: $\phi$ climbs D until it is more than u
    times its value on the clean x; then it rests until the student has brought it below l times, and climbs again. The
    student steps all the time, the mask at most so many times between two of its steps.

    A teacher on a graph predicts nodes as they are, so that its target stays that of the clean features: the
    bounds are what keeps it true, and a mask is all that is learnt, no edges. This is our own form, as is the rule of
    turns.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels, on clean features; 1 is `supervised`: a mask needs a teacher to learn from.
        loss: $\ell$ between logits, what `kdlosses.build` takes.
        bound: how far a feature is turned up or down; 0 leaves x as it is, the method without augmentation.
        up: u, at least l.
        low: l.
        lr: learning rate of the mask, by Adam.
        steps: of the mask for one of the student, at most.

    Paper: Nix, Burg, Sinz, "HARD: Hard Augmentations for Robust Distillation", 2023, where the teacher sees the
    augmented input as well. Its rule of turns was not at hand.
    """
    check_lam("hard", lam)
    if not 0 < low <= up:
        raise ValueError(f"hard: 0 < low <= up must hold, got low={low} and up={up}")
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.teacher_logits()
    soft = kdlosses.build(loss)
    mask = FeatureMask(lesson.x.shape[1], bound)
    optimiser = torch.optim.Adam(mask.parameters(), lr, maximize=True)
    nothing = torch.zeros(())
    climbing = bound > 0

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        nonlocal climbing
        x, target = rows(lesson.x, nodes).to_dense(), rows(teacher, nodes)
        context = lesson.context(nodes, soft.needs)
        mask.to(x.dtype)
        with torch.no_grad():
            clean = soft(model(x), target, **context)
        value = soft(model(mask(x)), target, **context)
        for _ in range(steps if climbing else 0):
            if value > up * clean:
                break
            optimiser.zero_grad()
            value.backward(inputs=list(mask.parameters()))
            optimiser.step()
            value = soft(model(mask(x)), target, **context)
        climbing = bound > 0 and (not value > up * clean if climbing else bool(value < low * clean))
        return value

    def step(nodes: Tensor | slice) -> Tensor:
        first = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * first + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, soft]), step, len(lesson))
