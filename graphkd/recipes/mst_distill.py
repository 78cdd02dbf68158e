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
from kdlosses.space import Range


@recipe(asks=True, space=dict(mask=Range(0.1, 10.0, log=True), rebuild=Range(0.1, 10.0, log=True)))
def mst_distill(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    loss: Any = dict(type="kl", tau=4.0),  # noqa: B006 - never changed
    k: int = 1,
    balance: float = 1.0,
    hidden: int = 32,
    mask: float = 1.0,
    rebuild: float = 1.0,
    start: float = 0.1,
    ask: bool = True,
) -> History:
    r"""MST-Distill: teachers whose features are masked for the student, and a gate that selects among them.

    $$ L = \lambda \, \mathrm{CE} + (1 - \lambda) \Big( \mathrm{MST}(z^s, [\tilde z_1, \dots, \tilde z_E])
         + \frac{m}{E} \sum_e \Big( \ell(\tilde z_e, z^s)
         + r \, \frac{\|\tilde h_e - h_e\|^2}{\|h_e\|^2} \Big) \Big), \qquad
       \tilde h_e = \sigma(M_e(h_e)) \odot h_e, \quad \tilde z_e = U_e \tilde h_e $$

    with MST the policy `mst_distill` without masks of its own, $h_e$ the last hidden layer of a teacher and $U_e$ its
    own layers above that, frozen, which its neighbours go through as well. The masks learn by the last sum alone: to
    let through what the student can follow, and to rebuild the teacher's features; it moves neither student nor gate.
    Up to `start` the student hears the teachers as they are, for it is no measure of what it can follow before.

    Args:
        model: the student, trained in place.
        lesson: with the logits of the teachers, their hidden layers, and themselves.
        lam: weight of the labels; 1 is `supervised`.
        loss: $\ell$, what `kdlosses.build` takes: a mean over positions, with a `weight`, between logits.
        k: teachers for each node.
        balance: of the gate, see `kdlosses.policy.MSTDistill`.
        hidden: width of the gate, and of the masks.
        mask: m; 0 for teachers as they are.
        rebuild: r.
        start: share of the training before the student hears the masked teachers.
        ask: whether the masks stand on features; if not, as where there are only outputs, they stand on logits, see
            `kdlosses.policy.MSTDistill`.

    Raises:
        ValueError: there is no network to ask, or a teacher has no hidden layer.

    Paper: Li et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge Distillation", 2025, with
    attention over channels for a mask, in a phase before the student learns. Two linear layers, that they learn beside
    the student, and the weights are ours.
    """
    check_lam("mst_distill", lam)
    if lam == 1:
        return supervised(model, lesson)
    teachers, joined = lesson.teachers(), lesson.joined_logits()
    asked = lesson.live_teacher("mst_distill") if ask and mask > 0 else None
    if asked is not None and not all(states for states, _ in teachers):
        raise ValueError(
            "mst_distill: it masks the last hidden layer of each teacher, and one has none: ask=False masks logits"
        )
    policy = kdlosses.build(
        dict(
            type="mst_distill",
            classes=teachers[0][1].shape[1],
            teachers=len(teachers),
            **dict(loss=loss, k=k, balance=balance, hidden=hidden, rebuild=rebuild, start=start),
            mask=mask if asked is None else 0.0,
        )
    )
    inner, nothing, dtype = kdlosses.build(loss), torch.zeros(()), next(model.parameters()).dtype
    masks = nn.ModuleList(_mask(states[-1].shape[1], hidden) for states, _ in (teachers if asked is not None else ()))
    policy.to(dtype), masks.to(dtype)

    def specialised(student: Tensor, nodes: Tensor | slice) -> tuple[Tensor, Tensor]:
        """What the masked teachers say, one after the other, and the loss of the masks."""
        own, said = nothing, []
        for place, (states, _) in enumerate(teachers):
            h = rows(states[-1], nodes).to(dtype)
            masked = masks[place](h).sigmoid() * h
            said.append(asked.upper(masked, nodes, place))  # type: ignore[union-attr]
            apart = (masked - h).square().sum() / h.square().sum().clamp_min(1e-12)
            own = own + inner(said[-1], student, **lesson.context(nodes, inner.needs)) + rebuild * apart
        return torch.cat(said, 1).detach(), own / len(teachers)

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        z, told, own = model(rows(lesson.x, nodes)), rows(joined, nodes), nothing
        if asked is not None:
            masked, own = specialised(z.detach(), nodes)
            told = masked if lesson.clock.progress >= start else told
        return policy(z, told, **lesson.context(nodes, policy.needs)) + mask * own

    def step(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, policy, masks]), step, len(lesson))


def _mask(channels: int, hidden: int) -> nn.Module:
    last = nn.Linear(hidden, channels)
    nn.init.constant_(last.bias, 3.0)  # at first nearly all goes through
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), last)
