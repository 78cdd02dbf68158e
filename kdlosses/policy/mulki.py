from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.experts import experts, mixture
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import build, register


@register(name="mulki", match="positions", over_classes=True)
class MulKI(nn.Module):
    r"""Several teachers, weighted by how near a sample is to their class prototypes, which the student learns as well.

    $$ L = \ell(s, t) + e \, L_1 + d \, L_2 + c \, L_4, \qquad t_i = \log \sum_e a_{ie} p_{ei}, \quad
       a_i = \mathrm{softmax}_e(n_{ie} / \tau), \quad n_{ie} = \sum_c p_{ei}(c) \cos(u_{ei}, \mu_{ec}), $$

    $$ \mu_{ec} = \frac{\sum_{i: y_i = c} w_i \, p_{ei}(c) \, u_{ei}}{\sum_{i: y_i = c} w_i \, p_{ei}(c)}, $$

    where $u_{ei}$ are the logits of teacher e less their mean over the classes. A prototype is made of the labelled
    samples of its class, as far as the teacher agrees with the label. A class without any has similarity 0 to all.

    The four stages of the paper, of vision-language models, in forms of our own for logits. The two sides that are
    brought together are the student, $u^s$ and $\mu^s_c$, and what the weighted teachers say together, $u^t$ of t and
    $\mu^t_c$, both with the weights $w_i p^t_i(c)$; K are the classes with a label among these samples.

    Eliciting ideas: prototypes of a class agree,
    $L_1 = \frac{1}{|K|} \sum_{c \in K} (1 - \cos(\mu^s_c, \mu^t_c))$.

    Adding new ideas: a sample is to the prototypes of its own side, and of the other, what it is to the teachers', with
    $r(u, \mu)_{ic} = \mathrm{softmax}_{c \in K} \cos(u_i, \mu_c) / \tau$,
    $L_2 = \mathrm{KL}(r(u^t, \mu^t) \,\|\, r(u^s, \mu^s)) + \mathrm{KL}(r(u^t, \mu^t) \,\|\, r(u^s, \mu^t))$.

    Distinguishing ideas: the weights $a_{ie}$.

    Making connections: classes are to each other, those of one task and those of two, what they are to the teachers,
    $L_4 = \frac{1}{|K|^2} \sum_{c, c' \in K} (\cos(\mu^s_c, \mu^s_{c'}) - \cos(\mu^t_c, \mu^t_{c'}))^2$.

    The prototypes are those of the call: take batches with labels of all classes.

    Args:
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        temperature: $\tau$; large, all teachers count the same.
        elicit: weight e of the first stage.
        add: weight d of the second.
        connect: weight c of the fourth.
        ignore_index: label that marks a position without one, like any negative label.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        labels: `(N, *)`, class indices.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: the temperature is not positive.

    Paper: Zhang et al., "Multi-Stage Knowledge Integration of Vision-Language Models for Continual Learning", 2024.

    >>> right = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [4.0, 0.0, 0.0]])
    >>> wrong = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [3.0, 0.0, 5.0]])  # the last is like nothing it knows
    >>> loss, labels = build(dict(type="mulki", temperature=0.01)), torch.tensor([0, 1, -1])
    >>> loss(right, torch.cat([right, wrong], dim=1), labels=labels).item() < 1e-4
    True
    """

    def __init__(
        self,
        loss: Any = "kl",
        temperature: float = 0.1,
        ignore_index: int = 255,
        elicit: float = 0.1,
        add: float = 0.1,
        connect: float = 0.1,
    ) -> None:
        super().__init__()
        self.loss = build(loss)
        self.temperature, self.ignore_index = temperature, ignore_index
        self.elicit, self.add, self.connect = elicit, add, connect

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None, **context: Any
    ) -> Tensor:
        each = experts(teacher, student.shape[1], "mulki")
        index, known = labelled(labels, weight, self.ignore_index, student.shape[1])
        nearness = self._nearness(each.movedim((1, 2), (-2, -1)), index, known)
        a = (nearness.movedim(-1, 1) / self.temperature).softmax(1)
        target = mixture(each, a)
        value = self.loss(student, target, labels=labels, weight=weight, **context)
        if not (self.elicit or self.add or self.connect):
            return value
        first, second, fourth = self._stages(student, target, index, known, weight)
        return value + self.elicit * first + self.add * second + self.connect * fourth

    def _stages(
        self, student: Tensor, target: Tensor, labels: Tensor, known: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How far prototypes, relations of samples to them, and relations among them are from the teachers'."""
        mine, its = ((z - z.mean(1, keepdim=True)).movedim(1, -1) for z in (student, target))
        taught = F.one_hot(labels, target.shape[1]).to(target.dtype) * known.to(target.dtype).unsqueeze(-1)
        taught = taught * target.movedim(1, -1).softmax(-1)
        there = taught.flatten(0, -2).sum(0) > 0
        own, other = (_unit(_means(taught, u)) for u in (mine, its))
        mine, its = _unit(mine), _unit(its)
        both = there.unsqueeze(0) & there.unsqueeze(1)
        prototypes = weighted_mean(0.5 * (own - other).square().sum(-1), there.to(own.dtype))
        among = weighted_mean((own @ own.t() - other @ other.t()).square(), both.to(own.dtype))
        wanted = self._relation(its, other, there)
        told = torch.stack([self._relation(mine, to, there) for to in (own, other)])
        apart = (wanted.exp() * (wanted - told)).sum(-1).sum(0)
        return prototypes, weighted_mean(apart, weight), among

    def _relation(self, u: Tensor, prototypes: Tensor, there: Tensor) -> Tensor:
        """What a sample is to each class that is there, as log-probabilities `(N, *, C)`."""
        return torch.where(there, u @ prototypes.t() / self.temperature, _NEVER).log_softmax(-1)

    def _nearness(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """From the logits of all teachers `(N, *, E, C)` to what each position is to each, `(N, *, E)`."""
        p, u = logits.softmax(-1), logits - logits.mean(-1, keepdim=True)
        classes = logits.shape[-1]
        taught = F.one_hot(labels, classes).to(p.dtype) * weight.to(p.dtype).unsqueeze(-1)
        taught = (taught.unsqueeze(-2) * p).flatten(0, -3)
        # the scale of a prototype has no say in a cosine
        prototype = F.normalize(torch.einsum("nec,ned->ecd", taught, u.flatten(0, -3)), dim=-1)
        return (p * torch.einsum("...ed,ecd->...ec", F.normalize(u, dim=-1), prototype)).sum(-1)


_NEVER = -1e4


def _means(share: Tensor, u: Tensor) -> Tensor:
    """Means `(C, D)` of `u` `(N, *, D)` over the positions by their share of each class, `(N, *, C)`; 0 without any."""
    total = share.flatten(0, -2).sum(0).unsqueeze(1)
    return torch.einsum("nc,nd->cd", share.flatten(0, -2), u.flatten(0, -2)) / torch.where(total > 0, total, 1)


def _unit(u: Tensor) -> Tensor:
    """Rows of length 1, of rows near 0 shorter: its gradient is bounded."""
    return u * (u.square().sum(-1, keepdim=True) + 1e-8).rsqrt()
