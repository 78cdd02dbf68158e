from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusionRatio(nn.Module):
    r"""A small network that predicts the weight of the teacher against the label for each sample.

    $$ a_i = \sigma(\mathrm{net}(u_i)), \quad
       u = [S, T, G, M, (M - S)^2, (G - S)^2, (T - S)^2, (T - G)^2, (M - G)^2] \in \mathbb{R}^{9C} $$

    with S and T the probabilities of student and teacher, G the one-hot label, and M the teacher's mean prediction for
    samples of that class: the sides of the triangles S T G and S M G. Student and teacher are taken as they are; the
    network alone gets a gradient. It is 9C to 32 to 16 to 1 wide, with LeakyReLU between.

    Args:
        classes: C.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices, all of them known.
        means: `(C, C)`, row y is M of class y, see `kdlosses.class_means.class_means`.

    Returns:
        a `(N, *)`, between 0 (the label alone) and 1 (the teacher alone).

    Paper: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation", ICLR 2024;
    the input is known from a re-implementation.

    >>> z, y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    >>> FusionRatio(classes=3)(z, z, labels=y, means=torch.eye(3)).shape
    torch.Size([4])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(9 * classes, 32), nn.LeakyReLU(), nn.Linear(32, 16), nn.LeakyReLU(), nn.Linear(16, 1)
        )

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, means: Tensor) -> Tensor:
        s, t = (logits.detach().movedim(1, -1).softmax(-1) for logits in (student, teacher))
        g, m = F.one_hot(labels, s.shape[-1]).to(s), means[labels].to(s)
        sides = [(m - s).square(), (g - s).square(), (t - s).square(), (t - g).square(), (m - g).square()]
        return self.net(torch.cat([s, t, g, m, *sides], dim=-1)).squeeze(-1).sigmoid()
