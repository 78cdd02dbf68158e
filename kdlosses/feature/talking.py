from __future__ import annotations

from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.registry import register
from kdlosses.squared_error import squared_error


@register(match="positions", most={"message_channels": 65_536})
class Talking(nn.Module):
    r"""Talking models: encode both features into a shared message space; each decoder reconstructs its own features.

    With encoders $E_s, E_t$ from features to messages and decoders $D_s, D_t$ back, all of them learnt,

    $$ L = \sum_i \frac{w_i}{\sum_j w_j} \Big( \tfrac1m \|E_s f^s_i - E_t f^t_i\|^2
         + \tfrac1{C_s} \|D_s E_s f^s_i - f^s_i\|^2 + \tfrac1{C_t} \|D_t E_t f^t_i - f^t_i\|^2 \Big). $$

    Without the last two, the consistency of states, messages that say nothing would be least. `to_student` and
    `to_teacher` carry features across; what the other network makes of them is the interaction, which needs that
    network's upper layers: graph recipe `talking`.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        message_channels: m, width of a message.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Zhao et al., "Talking Models: Distill Pre-trained Knowledge to Downstream Models via Interactive
    Communication", 2023. Its formulas were not at hand: the terms bear its names, their form is our own.

    >>> import torch
    >>> talk = Talking(student_channels=2, teacher_channels=3)
    >>> talk(torch.zeros(5, 2), torch.zeros(5, 3)).shape, talk.to_student(torch.zeros(5, 3)).shape
    (torch.Size([]), torch.Size([5, 2]))
    """

    def __init__(self, student_channels: int, teacher_channels: int, message_channels: int = 64) -> None:
        super().__init__()
        self.student_encoder = _coder(student_channels, message_channels)
        self.student_decoder = _coder(message_channels, student_channels)
        self.teacher_encoder = _coder(teacher_channels, message_channels)
        self.teacher_decoder = _coder(message_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        said, heard = self.student_encoder(student), self.teacher_encoder(teacher)
        return (
            squared_error(said, heard, weight)
            + squared_error(self.student_decoder(said), student, weight)
            + squared_error(self.teacher_decoder(heard), teacher, weight)
        )

    def to_student(self, teacher: Tensor) -> Tensor:
        """Translate the teacher's features into the student's space: $D_s E_t f^t$."""
        return self.student_decoder(self.teacher_encoder(teacher.detach()))

    def to_teacher(self, student: Tensor) -> Tensor:
        """Translate the student's features into the teacher's space: $D_t E_s f^s$."""
        return self.teacher_decoder(self.student_encoder(student))


def _coder(channels: int, out: int) -> nn.Module:
    return nn.Sequential(Pointwise(channels, out), nn.ReLU(), Pointwise(out, out))
