from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses import register
from kdlosses.reduce import weighted_mean
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import points
from kdlosses.unit import unit

SAME = 1 - 1e-5
"""Cosine from which two embeddings are those of one text: those of two texts differ more, float32 is exact to 1e-6."""


@register(match="positions", categorical=True, maps=False)
class InstanceText(nn.Module):
    r"""Match the feature of each instance with the embedding of a sentence about it, by cosine and contrast.

    With W a learned matrix, $z_i = W f^s_i$, $t_i$ the frozen embedding of instance i's text, $s_{ij} = \cos(z_i, t_j)
    / \tau$ and $\mathcal T$ the distinct texts of the batch, each counted once however many instances have it,

    $$ L = \frac1n \sum_i \Big( 1 - \cos(z_i, t_i) + \lambda \big( \log \sum_{k \in \mathcal T} e^{s_{ik}} - s_{ii}
       \big) \Big). $$

    Instances of equal text are no negatives of each other. If all have one text the second term is 0. Pairs are held in
    blocks.

    Args:
        student_channels: width of an instance's feature.
        teacher_channels: width of an embedding.
        contrast: $\lambda$.
        tau: $\tau$.
        project: learn W; False for the identity, where the widths agree.

    `forward`:
        student: features of instances `(N, C_s, *)`.
        teacher: embeddings of their texts `(N, C_t, *)`, at any length.
        weight: `(N, *)`, instances to count; a text that only instances of weight 0 have is not among the distinct.

    Paper: after the abstract of "OmniScene: Attention-Augmented Multimodal 4D Scene Understanding for Autonomous
    Driving", 2025, in which text teaches 3D instance features. The formula, the numbers and the sentences are our own
    form. Weight 0.1, ramped up over the first tenth of the training by `ramp`.

    >>> loss = InstanceText(student_channels=4, teacher_channels=2)
    >>> texts = torch.eye(2)[[0, 1, 1]]
    >>> with torch.no_grad():
    ...     _ = loss.project.weight.copy_(torch.eye(2, 4))
    >>> round(loss(torch.eye(4)[[0, 1, 1]], texts).item(), 4), round(loss(torch.eye(4)[[1, 0, 0]], texts).item(), 4)
    (0.0, 8.1429)
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        contrast: float = 0.5,
        tau: float = 0.07,
        project: bool = True,
    ) -> None:
        super().__init__()
        if contrast < 0:
            raise ValueError(f"instance_text: contrast must be at least 0, got {contrast}")
        if not project and student_channels != teacher_channels:
            raise ValueError(
                f"instance_text: without a projection the widths must agree, got {student_channels} of the student and "
                f"{teacher_channels} of the embeddings"
            )
        linear = nn.Linear(student_channels, teacher_channels, bias=False)
        self.project: nn.Module = linear if project else nn.Identity()
        self.contrast, self.tau = contrast, tau

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        student, teacher, weight = points(student, teacher, weight)
        z, t = unit(self.project(student), 2), unit(teacher, 2)
        present = (weight > 0).to(t.dtype)

        def copies(rows: Tensor) -> Tensor:
            return ((rows @ t.mT > SAME) * present.unsqueeze(1)).sum(2)

        with torch.no_grad():
            n = by_rows(copies, t, columns=t.shape[1])
            log_share = (present / n.clamp_min(1)).log().clamp_min(torch.finfo(t.dtype).min / 4).unsqueeze(1)

        def error(rows: Tensor, own: Tensor) -> Tensor:
            fit = (rows * own).sum(2)
            among = torch.baddbmm(log_share, rows / self.tau, t.mT).logsumexp(2)
            return 1 - fit + self.contrast * (among - fit / self.tau)

        return weighted_mean(by_rows(error, z, t, columns=t.shape[1]), weight)
