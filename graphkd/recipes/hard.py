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
from kdlosses.experts import consensus


@recipe(asks=True)
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
    ask: bool = True,
) -> History:
    r"""Hard augmentation: train on adversarial feature masks that maximise the gap between student and teacher.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \, D\big(g_\phi(x)\big), \qquad D(x) = \ell\big(z^s(x), z^t(x)\big), $$

    with $g_\phi$ a `FeatureMask`, the identity at first. The two take turns: $\phi$ climbs D until it is more than u
    times its value on the clean x; then it rests until the student has brought it below l times, and climbs again. The
    student steps all the time, the mask at most so many times between two of its steps.

    Student and teacher see the same augmented features, of all nodes of a step at once, so that the mask looks for
    where they disagree and the teacher says what is right there. The student reads no edges: features are all that is
    augmented. The mask and the rule of turns are our own forms.

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
        ask: whether the teacher is asked about the augmented features; if not, what it says of x is the target.

    Raises:
        ValueError: an option is out of range, or there is no network to ask.

    Paper: Nix, Burg, Sinz, "HARD: Hard Augmentations for Robust Distillation", 2023. Its rule of turns was not at hand.
    """
    check_lam("hard", lam)
    if not 0 < low <= up:
        raise ValueError(f"hard: 0 < low <= up must hold, got low={low} and up={up}")
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.teacher_logits()
    live = lesson.live_teacher("hard") if ask and bound > 0 else None
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

        def disagreement(climb: bool) -> Tensor:
            with torch.set_grad_enabled(climb):
                moved = mask(x)
                told = target if live is None else consensus(live(moved, nodes), target.shape[1], "hard")
            return soft(model(moved), told, **context)

        left = steps if climbing else 0
        value = disagreement(left > 0)
        while left and not value > up * clean:
            optimiser.zero_grad()
            value.backward(inputs=list(mask.parameters()))
            optimiser.step()
            left -= 1
            value = disagreement(left > 0)
        climbing = bound > 0 and (not value > up * clean if climbing else bool(value < low * clean))
        return value

    def step(nodes: Tensor | slice) -> Tensor:
        first = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * first + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, soft]), step, len(lesson))
