from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.experts import experts
from kdlosses.reduce import weighted_mean
from kdlosses.registry import build, register


@register(name="mst_distill", match="positions", over_classes=True, most={"start": 1})
class MSTDistill(nn.Module):
    r"""Several teachers, each specialised to the student by a mask; a gate selects the top k for each position.

    $$ g_i = \mathrm{softmax}_e(\mathrm{MLP}(z^s_i)), \quad
       L = \frac{\sum_i w_i \frac1k \sum_{e \in \mathrm{top}_k(g_i)} \ell(s_i, \tilde t_{e,i})}{\sum_i w_i}
         + b \, \mathrm{KL}\Big(\mathrm{uniform} \,\Big\|\, \frac{\sum_i w_i g_i}{\sum_i w_i}\Big)
         + \frac{m}{E} \sum_e \big(\ell(\tilde t_e, s) + r \, \ell(\tilde t_e, t_e)\big), \qquad
       \tilde t_{e,i} = \sigma(M_e(t_{e,i})) \odot (t_{e,i} - \bar t_{e,i}) $$

    The second term keeps the teachers equally busy. The choice itself has no gradient; own form: the gate learns as if
    its weight stood in place of the choice (straight-through), towards the chosen teachers that cost less, and it sees
    the student's logits detached.

    The third term trains the masks by themselves: of what a teacher says of each class they let through what the
    student can follow, and keep as much of it as they can. It reaches neither student nor gate, the first two reach no
    mask. A student that has learned nothing is no measure of what it can follow: it hears the teachers as they are up
    to `start`. Where no progress is told, it hears them masked from the first step. In the paper the masks stand on
    features inside of each teacher, as in graphkd's recipe `mst_distill`; on logits they need no network, and the
    teachers may be what they said. That they learn beside the student, not in a phase of their own, is ours too. A
    teacher that is not chosen saves nothing.

    Args:
        classes: C.
        teachers: E.
        loss: what `kdlosses.build` takes: a mean over positions, with a `weight`, between logits of the same shape.
        k: teachers for each position.
        balance: weight b.
        hidden: width of the gate, and of the masks.
        mask: m; 0 for teachers as they are. With one of them it is then the loss inside.
        rebuild: r, at 0 a mask may drop all.
        start: share of the training before the student hears the masked teachers.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)`, those of the E teachers one after the other along axis 1.
        weight: `(N, *)`, positions to count.
        progress: share of the training that is over.
        context: what the loss inside names.

    Raises:
        ValueError: k is not 1 to E, the loss inside takes no weight, or the teachers are not E.

    Paper: Li et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge Distillation", 2025, there
    with `kl` at tau=4 and k = 1. Factor 1 for the first term, 1 / E for the balance.

    >>> loss = build(dict(type="mst_distill", classes=3, teachers=2, balance=0.0, mask=0.0))
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
        mask: float = 1.0,
        rebuild: float = 1.0,
        start: float = 0.1,
    ) -> None:
        super().__init__()
        self.loss = build(loss)
        if not 1 <= k <= teachers:
            raise ValueError(f"mst_distill: k must be a number of teachers, 1 to {teachers}, got {k}")
        if "weight" not in self.loss.needs:
            raise ValueError(f"mst_distill: the loss inside must take a weight, {self.loss.name!r} does not")
        self.k, self.balance, self.mask, self.rebuild, self.start = k, balance, mask, rebuild, start
        self.gate = _of_two(classes, hidden, teachers)
        self.masks = nn.ModuleList(_of_two(classes, hidden, classes) for _ in range(teachers if mask else 0))
        for each in self.masks:
            _open(each)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        weight: Tensor | None = None,
        progress: float | None = None,
        **context: Any,
    ) -> Tensor:
        if student.shape[1] != self.gate[0].in_features:
            built = self.gate[0].in_features
            raise ValueError(f"mst_distill: built for {built} classes, got student {tuple(student.shape)}")
        each = experts(teacher, student.shape[1], "mst_distill")
        soft = _at_each(self.gate, student.detach()).softmax(1)
        if each.shape[1] != soft.shape[1]:
            raise ValueError(f"mst_distill: got {each.shape[1]} teachers, the gate was built for {soft.shape[1]}")
        if progress is not None:
            context["progress"] = progress
        masked = self._masked(each)
        own = self._own(masked, student.detach(), each, weight, context)
        each = masked.detach() if progress is None or progress >= self.start else each
        chosen = torch.zeros_like(soft).scatter(1, soft.topk(self.k, dim=1).indices, 1.0)
        chosen = (chosen + (soft - soft.detach())) / self.k
        total = student.new_zeros(())
        for place in range(each.shape[1]):
            share = chosen[:, place] if weight is None else chosen[:, place] * weight
            # the loss inside divides by its own share of the positions
            total = total + weighted_mean(chosen[:, place], weight) * self.loss(
                student, each[:, place], weight=share, **context
            )
        return total + self.balance * self._imbalance(soft, weight) + self.mask * own

    def _masked(self, each: Tensor) -> Tensor:
        """What the masks let through of the logits `(N, E, C, *)`; all of it where there are none."""
        if not self.masks:
            return each
        open_ = torch.stack([_at_each(mask, z).sigmoid() for mask, z in zip(self.masks, each.unbind(1))], 1)
        return open_ * (each - each.mean(2, keepdim=True))

    def _own(
        self, masked: Tensor, student: Tensor, each: Tensor, weight: Tensor | None, context: dict[str, Any]
    ) -> Tensor:
        """The loss of the masks, in the mean over the teachers."""
        total = student.new_zeros(())
        for place in range(len(self.masks)):
            for factor, target in ((1.0, student), (self.rebuild, each[:, place])):
                total = total + factor * self.loss(masked[:, place], target, weight=weight, **context)
        return total / max(1, len(self.masks))

    def _imbalance(self, gate: Tensor, weight: Tensor | None) -> Tensor:
        load = torch.stack([weighted_mean(each, weight) for each in gate.unbind(1)])
        busy = load.sum() > 0  # an empty selection is balanced
        return -torch.where(busy, load, 1 / len(load)).log().mean() - math.log(len(load))


@torch.no_grad()
def _open(mask: Any) -> None:
    """Have a mask that has learned nothing let nearly all through."""
    mask[-1].bias.fill_(3.0)


def _of_two(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _at_each(network: nn.Module, logits: Tensor) -> Tensor:
    """A network of rows at each position of `(N, C, *)`."""
    return network(logits.movedim(1, -1)).movedim(-1, 1)
