"""Talking models: features become messages, and each network's own classifier answers those of the other."""

from typing import Any

from torch import Tensor, nn

import kdlosses
from densekd.methods.pixels import features, logits
from densekd.methods.registry import method
from kdlosses.feature.talking import Talking
from kdlosses.taps import find


@method()
def talking(
    student: nn.Module,
    teacher: nn.Module,
    messages: int = 64,
    interaction: float = 0.1,
    consistency: float = 1.0,
) -> list[dict[str, Any]]:
    """Match the teacher's logits by `kl`, and let the two talk about what their classifiers read, see `Conversation`.

    Raises:
        ValueError: one is no segmenter, or ends in no layer of its own.

    Paper: Zhao et al., "Talking Models: Distill Pre-trained Knowledge to Downstream Models via Interactive
    Communication", 2023. Its formulas were not at hand: the terms bear its names; their form and weights are ours.
    """
    ends, before = logits("talking", student, teacher), features("talking", student, teacher)
    mine, its = find(student, ends["student"]), find(teacher, ends["teacher"])
    for side, layer in (("student", mine), ("teacher", its)):
        if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise ValueError(
                f"method 'talking': {ends[side]!r} of the {side} is a {type(layer).__name__}; it has to be the linear "
                "layer or convolution that makes the logits"
            )
    talk = Conversation(mine, its, messages, interaction, consistency)
    return [{"loss": "kl", **ends}, {"loss": talk, **before, "name": "talking"}]


class Conversation(nn.Module):
    r"""What two networks make of the messages of each other, beside the loss `talking`.

    With the coders $E_s, D_s, E_t, D_t$ of `kdlosses.Talking` on the features f before the last layers $U_s, U_t$,

    $$ L = \iota \Big( \mathrm{KL}\big(\mathrm{softmax}\, U_t f^t \,\|\, \mathrm{softmax}\, U_s D_s E_t f^t\big)
         + \tfrac1C \big\|U_t D_t E_s f^s - U_t f^t\big\|^2 \Big) + c \, L_\mathrm{talking}. $$

    $U_t$ is the teacher's own layer, frozen like all of it, which the gradient passes; $U_s$ is the student's, which
    learns. Neither is a part of this module: its state has the coders alone.

    Args:
        mine: $U_s$.
        its: $U_t$.
        messages: width of a message.
        interaction: $\iota$.
        consistency: c.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    >>> import torch
    >>> talk = Conversation(nn.Conv2d(4, 3, 1), nn.Conv2d(8, 3, 1))
    >>> talk(torch.randn(2, 4, 6, 6), torch.randn(2, 8, 6, 6)).shape, len(list(talk.children()))
    (torch.Size([]), 3)
    """

    match = "positions"

    def __init__(
        self, mine: Any, its: Any, messages: int = 64, interaction: float = 0.1, consistency: float = 1.0
    ) -> None:
        super().__init__()
        self.talk = Talking(mine.weight.shape[1], its.weight.shape[1], messages)
        self.kl, self.mse = kdlosses.build("kl"), kdlosses.build("mse")
        self.interaction, self.consistency = interaction, consistency
        self.ends = mine, its  # in a tuple: they are parts of their networks

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        mine, its = self.ends
        said, answer = its(teacher), its(self.talk.to_teacher(student))
        told = mine(self.talk.to_student(teacher))
        interaction = self.kl(told, said, weight=weight) + self.mse(answer, said, weight=weight)
        return self.interaction * interaction + self.consistency * self.talk(student, teacher, weight=weight)
