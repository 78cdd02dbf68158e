from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean


@register(name="fbkd", match="positions")
class FBKD(nn.Module):
    r"""Feature-based distillation of detectors: where both attend, means over positions and channels, and relations.

    With the attention of a map over its $P = h w$ positions, of which no gradient is taken,

    $$ A_i(f) = P \, \mathrm{softmax}_i \Big( \frac1\tau \mathrm{mean}_c |f_{ic}| \Big), \qquad
       M = \tfrac12 \big( A(f^s) + A(f^t) \big), $$

    a block that relates all positions, $\mathcal R(f)_i = f_i + W_o \frac1{|J|} \sum_{j \in J} (\theta f_i \cdot \phi
    f_j) \, g f_j$ with J the positions after max-pooling, and learned maps $U_1, \dots, U_4$ of the student,

    $$ L = \mathrm{mean}_n \Big[ \alpha \big\| \sqrt M (U_1 f^s - f^t) \big\|
       + \beta \big\| U_2 \, \mathrm{mean}_i f^s - \mathrm{mean}_i f^t \big\|
       + \gamma \big\| U_3 \, \mathrm{mean}_c f^s - \mathrm{mean}_c f^t \big\|
       + \delta \big\| U_4 \mathcal R_s(f^s) - \mathcal R_t(f^t) \big\| \Big]. $$

    $U_1, U_2, U_4$ lead from the student's channels to the teacher's, $U_3$ is a 3x3 convolution of one channel. Both
    sides have a block of their own, learned, with $W_o$ zero at the start. Norms are over channels and positions.

    Args:
        student_channels: of the student's features.
        teacher_channels: of the teacher's features.
        tau: temperature of the attention.
        alpha: weight of the attended features.
        beta: weight of the means over positions.
        gamma: weight of the means over channels.
        delta: weight of the relations.
        pool: side of the windows that are max-pooled before positions are related; at most that of the map.

    `forward`:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.

    Paper: Zhang and Ma, "Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and
    Efficient Detectors", ICLR 2021. Its code takes each norm over the images of a batch at once, here it is the mean
    of theirs: of n images alike, factor $1 / \sqrt n$. Norms grow with the side of the map: weights are published for
    images of 800x1333. Its blocks end in batch normalisation, which is left out.

    >>> import torch
    >>> loss = FBKD(student_channels=4, teacher_channels=6)
    >>> loss(torch.randn(2, 4, 5, 7), torch.randn(2, 6, 5, 7)).shape
    torch.Size([])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        tau: float = 0.5,
        alpha: float = 7e-5,
        beta: float = 4e-3,
        gamma: float = 4e-3,
        delta: float = 7e-5,
        pool: int = 2,
    ) -> None:
        super().__init__()
        self.tau, self.alpha, self.beta, self.gamma, self.delta = tau, alpha, beta, gamma, delta
        self.features = Pointwise(student_channels, teacher_channels)
        self.channels = nn.Linear(student_channels, teacher_channels)
        self.places = nn.Conv2d(1, 1, 3, padding=1)
        self.relations = Pointwise(student_channels, teacher_channels)
        self.of_student, self.of_teacher = NonLocal(student_channels, pool), NonLocal(teacher_channels, pool)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        mask = attention(student.detach(), self.tau).add(attention(teacher, self.tau)).div(2)
        terms = (
            (self.alpha, mask.sqrt() * (self.features(student) - teacher)),
            (self.beta, self.channels(student.mean((2, 3))) - teacher.mean((2, 3))),
            (self.gamma, self.places(student.mean(1, keepdim=True)) - teacher.mean(1, keepdim=True)),
            (self.delta, self.relations(self.of_student(student)) - self.of_teacher(teacher)),
        )
        norms = [factor * torch.linalg.vector_norm(error.flatten(1), dim=1) for factor, error in terms]
        return weighted_mean(torch.stack(norms).sum(0))


def attention(features: Tensor, tau: float = 0.5) -> Tensor:
    """Attention over the positions of maps `(N, C, h, w)`: `(N, 1, h, w)`, of mean 1.

    >>> attention(torch.ones(1, 3, 2, 2)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    size = features.abs().mean(1).flatten(1)
    share = F.softmax(size / tau, dim=1) * size.shape[1]
    return share.view(len(features), 1, *features.shape[2:])


class NonLocal(nn.Module):
    r"""Add to each position what it relates to of all others, as a non-local block does; at the start nothing.

    Relations are products, without a softmax: sums over pairs of positions are made as products of two matrices of the
    size of the channels, so that neither time nor memory grows with the square of the positions.

    Args:
        channels: of the map.
        pool: side of the windows that are max-pooled.
    """

    def __init__(self, channels: int, pool: int = 2) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta, self.phi, self.g = (Pointwise(channels, inner) for _ in range(3))
        self.out, self.pool = Pointwise(inner, channels), pool
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        phi, g = (self._pooled(each(features)) for each in (self.phi, self.g))
        related = (g @ phi.mT / phi.shape[2]) @ self.theta(features).flatten(2)
        return features + self.out(related.view(len(features), -1, *features.shape[2:]))

    def _pooled(self, maps: Tensor) -> Tensor:
        window = [min(self.pool, side) for side in maps.shape[2:]]
        return F.max_pool2d(maps, window).flatten(2)
