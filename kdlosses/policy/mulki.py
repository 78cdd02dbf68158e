from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.experts import experts, mixture
from kdlosses.reduce import labelled
from kdlosses.registry import build, register


@register(name="mulki", match="positions", over_classes=True)
class MulKI(nn.Module):
    r"""Any loss on logits towards several teachers, weighted by a sample's similarity to each one's class prototypes.

    $$ L = \ell(s, \log \sum_e a_{ie} p_{ei}), \quad a_i = \mathrm{softmax}_e(n_{ie} / \tau), \quad
       n_{ie} = \sum_c p_{ei}(c) \cos(u_{ei}, \mu_{ec}), $$

    $$ \mu_{ec} = \frac{\sum_{i: y_i = c} w_i \, p_{ei}(c) \, u_{ei}}{\sum_{i: y_i = c} w_i \, p_{ei}(c)}, $$

    where $u_{ei}$ are the logits of teacher e less their mean over the classes. A prototype is made of the labelled
    samples of its class, as far as the teacher agrees with the label. A class without any has similarity 0 to all.

    This is our own form of the paper's third stage, which separates the knowledge of two teachers by prototypes and
    weights it anew; the paper's vision-language prototypes have no counterpart on logits. The prototypes are those of
    the call: take batches with labels of all classes.

    Args:
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        temperature: $\tau$; large, it is `average`.
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

    def __init__(self, loss: Any = "kl", temperature: float = 0.1, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss = build(loss)
        self.temperature, self.ignore_index = temperature, ignore_index

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None, **context: Any
    ) -> Tensor:
        each = experts(teacher, student.shape[1], "mulki")
        index, known = labelled(labels, weight, self.ignore_index, student.shape[1])
        nearness = self._nearness(each.movedim((1, 2), (-2, -1)), index, known)
        a = (nearness.movedim(-1, 1) / self.temperature).softmax(1)
        return self.loss(student, mixture(each, a), labels=labels, weight=weight, **context)

    def _nearness(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """From the logits of all teachers `(N, *, E, C)` to what each position is to each, `(N, *, E)`."""
        p, u = logits.softmax(-1), logits - logits.mean(-1, keepdim=True)
        classes = logits.shape[-1]
        taught = F.one_hot(labels, classes).to(p.dtype) * weight.to(p.dtype).unsqueeze(-1)
        taught = (taught.unsqueeze(-2) * p).flatten(0, -3)
        # the scale of a prototype has no say in a cosine
        prototype = F.normalize(torch.einsum("nec,ned->ecd", taught, u.flatten(0, -3)), dim=-1)
        return (p * torch.einsum("...ed,ecd->...ec", F.normalize(u, dim=-1), prototype)).sum(-1)
