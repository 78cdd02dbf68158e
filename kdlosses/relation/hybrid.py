from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import points
from kdlosses.unit import unit


@register(match="positions", categorical=True)
def hybrid(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    drop: float = 0.0,
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
    progress: float | None = None,
) -> Tensor:
    r"""Token relations of hybrid distillation: match the attention among the tokens of a sample.

    With $A_i = \mathrm{softmax}_j(\cos(f_i, f_j) / \tau)$ over the tokens j of the sample of i,

    $$ L = \mathrm{mean}_i \, \mathrm{KL}(A^t_i \,\|\, A^s_i). $$

    Rotation and scale of either side change nothing, nor need the channels agree. This is the half that a masked
    auto-encoder teaches, on a layer in the middle; the other half, features of a supervised or contrastive teacher on
    the last layer, is `g2sd` in an entry of its own. Tokens that look like all others teach little: `drop` leaves them
    out, more and more through training. A map is a sample, and so is a graph. Pairs are held in blocks.

    Args:
        student: tokens `(N, C_s, *)`.
        teacher: tokens `(N, C_t, *)`.
        tau: temperature.
        drop: fraction of the tokens of a sample left out at the end of training: those whose mean cosine to the others,
            on the side of the teacher, is the highest.
        draw: number of tokens of a sample to draw at random in each call, before any are left out; all if not given.
        weight: `(N, *)`, tokens to count.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.
        progress: share of training that is done, which scales `drop`; 1 if not given.

    Paper: Shi et al., "Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners", ICLR 2024, for
    the idea and the weights of 1. The form of the relation and the rule for dropping are our own.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(hybrid(f, torch.ones(2, 1), tau=1.0).item(), 4)  # KL((1/2, 1/2) || softmax(1, 0))
    0.1201
    """
    if not 0 <= drop < 1:
        raise ValueError(f"hybrid: drop must lie in [0, 1), got {drop}")
    student, teacher, weight = points(student, teacher, weight, batch, view="sample", draw=draw)
    student, teacher = unit(student, dim=2), unit(teacher, dim=2)
    if drop:
        weight = weight.masked_fill(_common(teacher, weight, drop if progress is None else drop * progress), 0)
    log_w = weight.log().clamp_min(torch.finfo(student.dtype).min / 4).unsqueeze(1)

    def divergence(rows_s: Tensor, rows_t: Tensor) -> Tensor:
        log_q = torch.baddbmm(log_w, rows_s / tau, student.mT).log_softmax(2)
        log_p = torch.baddbmm(log_w, rows_t / tau, teacher.mT).log_softmax(2)
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(2)

    return weighted_mean(by_rows(divergence, student, teacher, columns=weight.shape[1]), weight)


def _common(tokens: Tensor, weight: Tensor, fraction: float) -> Tensor:
    """Mark the `fraction` of the tokens of each sample that are most like the others."""
    likeness = (tokens @ (weight.unsqueeze(1) @ tokens).mT).squeeze(2).masked_fill(weight == 0, -torch.inf)
    rank = likeness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < torch.floor(fraction * (weight > 0).sum(1, keepdim=True))
