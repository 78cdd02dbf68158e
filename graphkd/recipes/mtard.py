from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.attack import Mode, attacked


@recipe(asks=True)
def mtard(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    loss: Any = "kl",
    radius: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 10,
    noise: float = 0.001,
    rate: float = 0.025,
    attack: Mode = "eval",
    ask: bool = True,
) -> History:
    r"""MTARD: distill a teacher for clean features and one for adversarial features, at the same pace.

    $$ L = \lambda \, \mathrm{CE}
       + (1 - \lambda) \, \mathrm{mtard}\big([z^s(x), z^s(x')], [z^{t_1}(x), z^{t_2}(x')]\big),
       \quad x' = \arg\max_{\|x' - x\|_\infty \le r} \mathrm{KL}(p^{t_2}(x) \,\|\, p^s(x')) $$

    with the policy `mtard`, which balances the two terms, and x' by projected gradient ascent on the student's
    features; edges are not attacked, for the student has none. The natural teacher speaks of the clean features, the
    robust one is asked about the attacked ones, of all nodes of a step at once. One teacher teaches both. Robust is one
    that was trained against attacks: another is wrong about x', too, and a student withstands more with `ask=False`.

    Args:
        model: the student, trained in place.
        lesson: with the logits of the natural teacher and the robust one, or of one teacher.
        lam: weight of the labels; 1 is `supervised`.
        loss: inside of the policy, and what the attack raises.
        radius: r, in units of the features.
        step: of the ascent, each feature by its sign.
        steps: of the ascent.
        noise: standard deviation of the start.
        rate: of the weights, see `kdlosses.policy.MTARD`.
        attack: mode of the student while it is attacked: dropout only in `train`.
        ask: whether the robust teacher is asked about x'; if not, what it says of x is the target, as in a cache.

    Raises:
        ValueError: there are more than two teachers, an option is out of range, or there is no network to ask.

    Paper: Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Multi-Teacher Adversarial Distillation", 2024,
    there with pixels.
    """
    check_lam("mtard", lam)
    if attack not in ("eval", "train"):
        raise ValueError(f"mtard: attack is 'eval' or 'train', not {attack!r}")
    if lam == 1:
        return supervised(model, lesson)
    teachers = [logits for _, logits in lesson.teachers()]
    if len(teachers) > 2:
        raise ValueError(f"mtard: pass one teacher, or a natural and a robust one; got {len(teachers)}")
    natural, robust = teachers[0], teachers[-1]
    live = lesson.live_teacher("mtard") if ask else None
    policy = kdlosses.build(dict(type="mtard", teachers=2, loss=loss, rate=rate))
    inner = kdlosses.build(loss)

    ascent = dict(radius=radius, step=step, steps=steps, noise=noise, generator=lesson.generator)

    def loss_of(nodes: Tensor | slice) -> Tensor:
        x = rows(lesson.x, nodes)
        x = x.to_dense() if x.layout is torch.sparse_csr else x
        told, target = rows(natural, nodes), rows(robust, nodes)
        moved = attacked(model, x, lambda moved: inner(model(moved), rows(robust, nodes)), attack, **ascent)
        if live is not None:
            with torch.no_grad():
                target = live(moved, nodes, which=-1)
        student = torch.cat([model(x), model(moved)], dim=1)
        soft = policy(student, torch.cat([told, target], dim=1), **lesson.context(nodes, policy.needs))
        return (lam * lesson.hard_loss(model) if lam > 0 else 0) + (1 - lam) * soft

    return lesson.train(nn.ModuleList([model, policy]), loss_of, len(lesson))
