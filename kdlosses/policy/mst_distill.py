from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.experts import experts
from kdlosses.reduce import weighted_mean
from kdlosses.registry import build, register


@register(name="mst_distill", match="positions", over_classes=True)
class MSTDistill(nn.Module):
    r"""Several teachers; a gate selects the top k for each position.

    $$ g_i = \mathrm{softmax}_e(\mathrm{MLP}(z^s_i)), \quad
       L = \frac{\sum_i w_i \frac1k \sum_{e \in \mathrm{top}_k(g_i)} \ell(s_i, t_{e,i})}{\sum_i w_i}
         + b \, \mathrm{KL}\Big(\mathrm{uniform} \,\Big\|\, \frac{\sum_i w_i g_i}{\sum_i w_i}\Big) $$

    The second term keeps the teachers equally busy. The choice itself has no gradient; own form: the gate learns as if
    its weight stood in place of the choice (straight-through), towards the chosen teachers that cost less, and it sees
    the student's logits detached. With one teacher it is the loss inside.

    Left out: the masks that the paper trains on the features of each teacher, for they need its head; the teachers here
    are what they said. They have said it already, so that one that is not chosen saves nothing.

    Args:
        classes: C.
        teachers: E.
        loss: what `kdlosses.build` takes: a mean over positions, with a `weight`, between logits of the same shape.
        k: teachers for each position.
        balance: weight b.
        hidden: width of the gate.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: k is not 1 to E, the loss inside takes no weight, or the teachers are not E.

    Paper: Li et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge Distillation", 2025, there
    with `kl` at tau=4 and k = 1. Factor 1 for the first term, 1 / E for the balance.

    >>> loss = build(dict(type="mst_distill", classes=3, teachers=2, balance=0.0))
    >>> loss(torch.zeros(4, 3), torch.zeros(4, 6)).abs().item() < 1e-6
    True
    """

    def __init__(
        self,
        classes: int,
        teachers: int,
        loss: Any = dict(type="kl", tau=4.0),  # noqa: B006 - never changed
        k: int = 1,
        balance: float = 1.0,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.loss = build(loss)
        if not 1 <= k <= teachers:
            raise ValueError(f"mst_distill: k must be a number of teachers, 1 to {teachers}, got {k}")
        if "weight" not in self.loss.needs:
            raise ValueError(f"mst_distill: the loss inside must take a weight, {self.loss.name!r} does not")
        self.k, self.balance = k, balance
        self.gate = nn.Sequential(nn.Linear(classes, hidden), nn.ReLU(), nn.Linear(hidden, teachers))

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        if student.shape[1] != self.gate[0].in_features:
            built = self.gate[0].in_features
            raise ValueError(f"mst_distill: built for {built} classes, got student {tuple(student.shape)}")
        each = experts(teacher, student.shape[1], "mst_distill")
        soft = self.gate(student.detach().movedim(1, -1)).softmax(-1).movedim(-1, 1)
        if each.shape[1] != soft.shape[1]:
            raise ValueError(f"mst_distill: got {each.shape[1]} teachers, the gate was built for {soft.shape[1]}")
        chosen = torch.zeros_like(soft).scatter(1, soft.topk(self.k, dim=1).indices, 1.0)
        chosen = (chosen + (soft - soft.detach())) / self.k
        total = student.new_zeros(())
        for place in range(each.shape[1]):
            share = chosen[:, place] if weight is None else chosen[:, place] * weight
            # the loss inside divides by its own share of the positions
            total = total + weighted_mean(chosen[:, place], weight) * self.loss(
                student, each[:, place], weight=share, **context
            )
        return total + self.balance * self._imbalance(soft, weight)

    def _imbalance(self, gate: Tensor, weight: Tensor | None) -> Tensor:
        load = torch.stack([weighted_mean(each, weight) for each in gate.unbind(1)])
        busy = load.sum() > 0  # an empty selection is balanced
        return -torch.where(busy, load, 1 / len(load)).log().mean() - math.log(len(load))
