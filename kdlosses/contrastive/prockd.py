from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.squared_error import squared_error
from kdlosses.unit import unit


@register(name="prockd", match="positions")
class ProCKD(nn.Module):
    r"""ProCKD: match the assignment of positions to prototypes of the teacher's parts, and augment features by these.

    With K learned prototypes M, $a_i = \mathrm{softmax}_k(\cos(f^t_i, M_k) / \tau)$ for the teacher and $b_i$ the same
    of $W f^s_i$, W linear and learned,

    $$ L = \underbrace{\mathrm{mean}_{i,c} \big( (a_i M)_c - f^t_{ic} \big)^2}_{\text{learns M}}
         + \lambda \underbrace{\mathrm{KL}(U \,\|\, \mathrm{mean}_i a_i)}_{\text{uses all of M}}
         + \mathrm{mean}_i \, \mathrm{KL}(a_i \,\|\, b_i)
         + \kappa \, \mathrm{mean}_i \, \mathrm{CE}\big( H (f^s_i + A \, b_i M), y_i \big), $$

    U uniform. The last two terms teach the student, with a and M held fixed: the label spaces of the two sides need not
    agree, and neither need the channels. The last one is the student's task on features that the prototypes augment: A
    and the head H, linear, learn which of the teacher's parts the task can use. Changing the order of the prototypes
    changes nothing.

    The student is exported as it is; one that keeps this module answers with `loss.logits(features)`.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        classes: of the student's task.
        prototypes: K.
        tau: temperature.
        balance: $\lambda$.
        task: $\kappa$.
        ignore_index: label that marks a position that is left out of the last term.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        labels: `(N, *)`, the student's class indices; negative or `ignore_index` ones count in the other terms alone.
        weight: `(N, *)`, positions to count.

    Paper: Li et al., "Prototype-guided Cross-task Knowledge Distillation for Large-scale Models", 2022, for the
    ideas: prototypes learned from the teacher, and features of the student augmented by them for its task. The formula
    is our own.

    >>> import torch
    >>> loss = ProCKD(student_channels=3, teacher_channels=4, classes=2, prototypes=8)
    >>> loss(torch.randn(5, 3), torch.randn(5, 4), labels=torch.tensor([0, 1, 1, 255, -1])) > 0
    tensor(True)
    >>> loss.logits(torch.randn(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        classes: int,
        prototypes: int = 64,
        tau: float = 0.1,
        balance: float = 1.0,
        task: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.projection = Pointwise(student_channels, teacher_channels, bias=False)
        self.prototypes = nn.Parameter(torch.randn(prototypes, teacher_channels))
        self.augmentation = Pointwise(teacher_channels, student_channels, bias=False)
        self.head = Pointwise(student_channels, classes)
        self.tau, self.balance, self.task, self.ignore_index = tau, balance, task, ignore_index

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        labels, known = labelled(labels, weight, self.ignore_index, self.head.out_features)
        weight = None if weight is None else weight.flatten()
        rows = teacher.movedim(1, -1).flatten(0, -2)
        log_a = _log_shares(rows, self.prototypes, self.tau)
        a = log_a.exp()
        learn = squared_error(a @ self.prototypes, rows, weight)

        weight = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
        share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        used = share @ a
        spread = -math.log(used.numel()) - used.clamp_min(torch.finfo(used.dtype).tiny).log().mean()
        spread = spread * (weight > 0).any()

        log_b = self._assigned(student)
        teach = (a.detach() * (log_a.detach() - log_b)).sum(1)
        surprise = F.cross_entropy(self._answer(student, log_b), labels, reduction="none")
        return learn + self.balance * spread + weighted_mean(teach, weight) + self.task * weighted_mean(surprise, known)

    def logits(self, features: Tensor) -> Tensor:
        """Class logits `(N, classes, *)` of the student's features `(N, C_s, *)`, augmented by the prototypes."""
        return self._answer(features, self._assigned(features))

    def _assigned(self, features: Tensor) -> Tensor:
        """Log of how much each position of the student resembles each prototype, `(n, K)`."""
        rows = self.projection(features).movedim(1, -1).flatten(0, -2)
        return _log_shares(rows, self.prototypes.detach(), self.tau)

    def _answer(self, features: Tensor, log_b: Tensor) -> Tensor:
        parts = log_b.exp() @ self.prototypes.detach()
        parts = parts.unflatten(0, features.shape[:1] + features.shape[2:]).movedim(-1, 1)
        return self.head(features + self.augmentation(parts))


def _log_shares(rows: Tensor, prototypes: Tensor, tau: float) -> Tensor:
    """Log of how much each row of `(n, C)` resembles each prototype, `(n, K)`."""
    return (unit(rows, dim=1) @ unit(prototypes, dim=1).mT / tau).log_softmax(1)
