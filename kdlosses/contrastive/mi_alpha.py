from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import View, points


@register(name="mi_alpha", match="positions", least={"alpha_logit": -math.inf}, infinite=("alpha_logit",))
class MIAlpha(nn.Module):
    r"""Negative lower bound of the mutual information of student and teacher; $\alpha$ trades variance for bias.

    A critic scores pairs, $s_{ij} = \langle \phi(f^s_i), \psi(f^t_j) \rangle$, and beside it a baseline
    $a_i = a(f^s_i)$ is learned, all three small networks. With the leave-one-out mean
    $e^{m_{ij}} = \mathrm{mean}_{k \ne j} e^{s_{ik}}$,

    $$ b_{ij} = \log\big( \alpha e^{m_{ij}} + (1 - \alpha) e^{a_i} \big), \quad \alpha = \sigma(\text{alpha\_logit}), $$
    $$ L = - I = - 1 - \mathrm{mean}_{i \ne j} (s_{ii} - b_{ij}) + \mathrm{mean}_{i \ne j} \, e^{s_{ij} - b_{ii}} $$

    in nats. At $\alpha = 1$ it is InfoNCE with the pair itself left out, and I cannot exceed log(n - 1); a smaller one
    lifts that cap and raises the variance. Pairs are held in blocks. The networks train with the student and are thrown
    away. One point alone counts 0.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        alpha_logit: logit of $\alpha$, to be searched; infinity for $\alpha = 1$.
        hidden_channels: width inside the three networks.
        channels: width of $\phi$ and $\psi$.
        view: what the points are, see `kdlosses.relation.points`.
        draw: number of points to draw at random in each call; all if not given.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count; a mean over $i \ne j$ weighs a pair by $w_i w_j$, that over $k \ne j$ by
            $w_k$.
        batch: `(N,)`, graph of each node.

    Paper: He et al., "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing",
    2021, with the bound of Poole et al., "On Variational Bounds of Mutual Information", ICML 2019. Factor 1.

    >>> import torch
    >>> loss = MIAlpha(student_channels=3, teacher_channels=4)
    >>> loss(torch.randn(8, 3), torch.randn(8, 4)).shape
    torch.Size([])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        alpha_logit: float = 0.0,
        hidden_channels: int = 256,
        channels: int = 128,
        view: View = "batch",
        draw: int | None = None,
    ) -> None:
        super().__init__()

        def network(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, outputs))

        self.student_critic, self.teacher_critic = (
            network(student_channels, channels),
            network(teacher_channels, channels),
        )
        self.baseline = network(student_channels, 1)
        self.alpha_logit, self.view, self.draw = alpha_logit, view, draw

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        student, teacher, weight = points(student, teacher, weight, batch, self.view, self.draw)
        u, v, a = self.student_critic(student), self.teacher_critic(teacher), self.baseline(student)
        index = torch.arange(weight.shape[1], device=weight.device).expand(weight.shape)
        floor = torch.finfo(weight.dtype).min / 4
        log_w = weight.log().clamp_min(floor).unsqueeze(1)
        log_alpha, log_rest = F.logsigmoid(weight.new_tensor([self.alpha_logit, -self.alpha_logit]))
        total = weight.sum(1, keepdim=True)

        def bound(rows: Tensor, own: Tensor, a: Tensor, place: Tensor) -> Tensor:
            """Sum over j != i of w_j times what the pair adds to I."""
            itself = place.unsqueeze(2) == index.unsqueeze(1)
            score, left = rows @ v.mT, (total - weight).unsqueeze(1)
            mean = _log_sum_without_each(score + log_w) - left.clamp_min(torch.finfo(left.dtype).tiny).log()
            b = torch.logaddexp(log_alpha + mean, log_rest + a)
            joint = (rows * own).sum(2, keepdim=True) - b
            marginal = score - b.masked_fill(~itself, 0).sum(2, keepdim=True)
            # exp of the floor is 0: neither the pair itself nor masked points count
            each = (joint * weight.unsqueeze(1)).masked_fill(itself, 0) - (marginal + log_w).masked_fill(
                itself, floor
            ).exp()
            return each.sum(2)

        each = by_rows(bound, u, v, a, index, columns=weight.shape[1])
        pairs = (weight * (total - weight)).sum(1)
        some = pairs > 0
        information = 1 + (each * weight).masked_fill(weight == 0, 0).sum(1) / pairs.masked_fill(~some, 1)
        return -weighted_mean(information, some)


def _log_sum_without_each(z: Tensor) -> Tensor:
    """Log of the sum of the exponentials of a row with one entry left out, for each entry: `(..., n)`."""
    most = z.argmax(-1, keepdim=True)
    rest = z.scatter(-1, most, torch.finfo(z.dtype).min / 4).logsumexp(-1, keepdim=True)
    share = z.softmax(-1).scatter(-1, most, 0)  # of the others: at most a half, so that 1 - share is exact enough
    return torch.where(
        torch.zeros_like(z, dtype=torch.bool).scatter(-1, most, True),
        rest,
        z.logsumexp(-1, keepdim=True) + torch.log1p(-share),
    )
