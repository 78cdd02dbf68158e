from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from densekd.losses.receptive_tokens import ReceptiveTokens, overlap
from kdlosses import register
from kdlosses.reduce import weighted_mean


@register(name="maskd")
class MasKD(nn.Module):
    r"""Masked distillation: squared error within the masks of learned tokens, averaged over each mask.

    With the masks $M_t$ and shares $p_t$ of `ReceptiveTokens` on the teacher's features,

    $$ L = \mathrm{mean}_n \sum_t p_{nt} \, \frac1C \sum_c
       \frac{\sum_i w_i M_{nti}^2 (f^s_{nic} - f^t_{nic})^2}{\sum_i w_i M_{nti}}. $$

    The mask stands squared above and once below. From `custom` on it is the product of the token's masks on both sides'
    features. No gradient passes through it.

    Where tokens come from: with `learned`, a file of `densekd tokens`, they are those of the paper, learned
    beforehand with the teacher's task loss, and frozen. Without, they are learned with the student from the teacher's
    features alone, with equal shares, which is our own form: they minimise

    $$ 1 - \cos(a f^t, f^t) + \frac{1}{T (T - 1)} \sum_{s \ne t} \mathrm{dice}(M_s, M_t) + 1 - \frac{H(u)}{\log T},
       \qquad a_{ni} = \sum_t M_{nti}, \quad u_t \propto \sum_{ni} w_{ni} M_{nti} \|f^t_{ni}\|^2, $$

    the cosine of whole maps, H the entropy over a batch: together they cover the teacher's features, by disjoint masks
    of equal size. This adds to their gradient, but not to the value of the loss.

    Args:
        channels: C, of both sides: unlike channels are aligned before.
        tokens: T.
        custom: share of training from which the student's masks count, too; None for never. Published: after 1,000
            iterations, of 180,000.
        learned: safetensors file of tokens; C and T are then theirs.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.
        weight: `(N, h, w)`, positions to count; maps without any are not in the mean.
        progress: share of training that is done; 1 if not given.

    Paper: Huang et al., "Masked Distillation with Receptive Tokens", ICLR 2023. Factor 1, weight 1 on each level of a
    neck. The authors' code for segmenters is another recipe: logits, eight tokens of equal share, weight 0.5, without
    the student's masks.

    >>> import torch
    >>> loss = MasKD(channels=3, custom=None)
    >>> _ = loss.receptive.tokens.data.zero_()  # masks of 1/2: half of the mean squared error
    >>> round(loss(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).item(), 4)
    0.5
    """

    def __init__(
        self, channels: int, tokens: int = 6, custom: float | None = 0.0056, learned: str | None = None
    ) -> None:
        super().__init__()
        if tokens < 2:
            raise ValueError(f"maskd needs at least two tokens, got {tokens}")
        self.custom = custom
        self.learns = learned is None
        self.receptive = ReceptiveTokens(channels, tokens, weigh=False)
        if learned is not None:
            self.receptive = ReceptiveTokens.load(learned).requires_grad_(False)

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, progress: float | None = None
    ) -> Tensor:
        masks, shares = self.receptive.masks(teacher), self.receptive.shares(teacher, weight)
        used = masks.detach()
        if self.custom is not None and (progress is None or progress >= self.custom):
            with torch.no_grad():
                used = used * self.receptive.masks(student)
        every = None if weight is None else weight.flatten(1).to(used.dtype)
        each = used if every is None else used * every.unsqueeze(1)
        error = (student - teacher).square().mean(1).flatten(1)
        region = ((used * each) @ error.unsqueeze(2)).squeeze(2) / each.sum(2).clamp_min(_least(each))
        loss = weighted_mean((shares * region).sum(1), None if every is None else (every > 0).any(1))
        if not self.learns:
            return loss
        goal = self._goal(masks, teacher, every)
        return loss + (goal - goal.detach())

    def _goal(self, masks: Tensor, teacher: Tensor, weight: Tensor | None) -> Tensor:
        """The objective of tokens that are learned with the student."""
        energy = teacher.square().sum(1).flatten(1)
        if weight is not None:
            energy = energy * weight
        through, tokens = masks.sum(1), masks.shape[1]
        norms = (through.square() * energy).sum(1) * energy.sum(1)
        cosine = (through * energy).sum(1) / norms.clamp_min(_least(norms)).sqrt()
        lost = 1 - cosine + overlap(masks, weight) / (tokens * (tokens - 1))
        usage = (masks @ energy.unsqueeze(2)).sum((0, 2))
        usage = usage / usage.sum().clamp_min(1e-12)
        entropy = -(usage * usage.clamp_min(1e-12).log()).sum() / math.log(tokens)
        return weighted_mean(lost, None if weight is None else (weight > 0).any(1)) + 1 - entropy


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
