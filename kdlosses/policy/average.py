from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.experts import experts, mixture
from kdlosses.registry import build, register


@register(match="positions", over_classes=True)
class Average(nn.Module):
    r"""Any loss on logits towards the mean prediction of several teachers.

    $$ L = \ell(s, \bar z), \quad \bar z = \log \sum_e a_e \, \mathrm{softmax}(z^{t_e}), \quad \sum_e a_e = 1 $$

    It is probabilities that are averaged, not logits; the loss inside receives their logarithm. With one teacher a
    loss that does not see a constant added to all logits is as without the policy.

    Args:
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        weights: $a$ up to a common factor, one for each teacher; equal if not given.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        context: what the loss inside names.

    Raises:
        ValueError: a weight is negative, all are 0, or they are not as many as the teachers; the teacher's channels are
            no multiple of the student's.

    Paper: the customary use of several teachers, as in Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural
    Network", 2015. Factor 1. With `kd` it is `meal`.

    >>> one, other = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    >>> loss = build("average")
    >>> loss(torch.zeros(1, 2), torch.cat([one, other], dim=1)).abs().item() < 1e-6  # they cancel out
    True
    """

    weights: Tensor | None

    def __init__(self, loss: Any = "kl", weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = build(loss)
        given = None if weights is None else torch.tensor(list(weights), dtype=torch.get_default_dtype())
        if given is not None and not (given.ndim == 1 and (given >= 0).all() and given.sum() > 0):
            raise ValueError(f"average: weights must be non-negative numbers, not all 0, got {weights}")
        self.register_buffer("weights", None if given is None else given / given.sum())

    def forward(self, student: Tensor, teacher: Tensor, **context: Any) -> Tensor:
        each = experts(teacher, student.shape[1], "average")
        if self.weights is not None and len(self.weights) != each.shape[1]:
            raise ValueError(f"average: {len(self.weights)} weights for {each.shape[1]} teachers")
        return self.loss(student, mixture(each, self.weights), **context)
