from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.feature.talking import Talking
from kdlosses.space import Range


@recipe(asks=True, space=dict(interaction=Range(0.01, 1.0, log=True), consistency=Range(0.1, 10.0, log=True)))
def talking(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    messages: int = 64,
    interaction: float = 0.1,
    consistency: float = 1.0,
    ask: bool = True,
) -> History:
    r"""Talking models: encode hidden layers into messages; each network uses the messages of the other.

    With the coders $E_s, D_s, E_t, D_t$ of the loss `talking` on the last hidden layers $h$, and $U_s, U_t$ what
    follows these layers, down to the logits,

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \big(\mathrm{KL}(p^t \,\|\, p^s) + \iota \, L_\mathrm{int} + c \, L_\mathrm{talking}\big), $$

    $$ L_\mathrm{int} = \mathrm{KL}\big(p^t \,\|\, \mathrm{softmax}\, U_s D_s E_t h^t\big)
         + \tfrac1C \big\|U_t D_t E_s h^s - U_t h^t\big\|^2. $$

    $U_s$ is the student's last layer. $U_t$ are the teacher's own layers, frozen: what a message makes of the hidden
    layer of a node, its neighbours hear, too. Through them the gradient of what the teacher would answer reaches the
    student.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and its last hidden layer.
        lam: weight of the labels; 1 is `supervised`.
        messages: width of a message.
        interaction: $\iota$.
        consistency: c.
        ask: whether $U_t$ are the teacher's own layers; if not, as where there are only its outputs, a linear map from
            $h^t$ to its logits stands for them, fitted once by least squares and then frozen.

    Raises:
        ValueError: teacher or student have no hidden layer, or there is no network to ask.

    Paper: Zhao et al., "Talking Models: Distill Pre-trained Knowledge to Downstream Models via Interactive
    Communication", 2023. Its formulas were not at hand: the terms bear its names; their form and weights are ours. Of
    several teachers the last one talks.
    """
    check_lam("talking", lam)
    if lam == 1:
        return supervised(model, lesson)
    teacher, live = lesson.teacher_logits(), lesson.live_teacher("talking") if ask else None
    if not lesson.hidden or len(model.layers) < 2:
        raise ValueError("talking: it takes a hidden layer of the student and, from its cache, one of the teacher")
    states = lesson.hidden[-1]
    talk = Talking(model.widths[-2], states.shape[1], messages).to(next(model.parameters()).dtype)
    upper = _readout(rows(states), rows(teacher)) if live is None else live.upper
    said = upper(rows(states), slice(None)) if live is None else lesson.teachers()[-1][1]
    kl, mse = kdlosses.build("kl"), kdlosses.build("mse")
    nothing = torch.zeros(())

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        *_, mine, logits = model.outputs(rows(lesson.x, nodes))
        state, target = rows(states, nodes), rows(teacher, nodes)
        told = model.layers[-1](model.dropout(talk.to_student(state)))
        answer = mse(upper(talk.to_teacher(mine), nodes), rows(said, nodes))
        return kl(logits, target) + interaction * (kl(told, target) + answer) + consistency * talk(mine, state)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, talk]), loss, len(lesson))


def _readout(hidden: Tensor, logits: Tensor) -> Callable[[Tensor, Tensor | slice], Tensor]:
    """The linear map that comes nearest to the teacher's logits from its hidden layer, as `Live.upper` is called."""
    middle = hidden.mean(0)
    centred, target = (hidden - middle).double(), (logits - logits.mean(0)).double()
    # directions in which the layer hardly varies would get weights without bounds
    weight = torch.linalg.lstsq(centred, target, rcond=1e-2, driver="gelsd").solution.to(logits.dtype)
    return lambda state, nodes: (state - middle) @ weight + logits.mean(0)
