from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(match="positions")
def crkd(
    student: Tensor,
    teacher: Tensor,
    known: Sequence[int] | None = None,
    tau: float = 4.0,
    detach_weight: bool = False,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Class relations: preserve a new sample's distribution over the known classes, weighted by its mass on them.

    Over the known classes K, with $p, q$ the softmax over K alone of $z^t / \tau, z^s / \tau$,

    $$ l_i = -\tau^2 \, \frac{k_i}{\bar k} \sum_{c \in K} p_{ic} \log q_{ic}, \quad
       k_i = \sum_{c \in K} \mathrm{softmax}(z^s_i / \tau)_c, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    where $\bar k$ is the (weighted) mean of $k$: the factors average to 1. They learn too, so that equality with the
    teacher is not where it rests: mass moves between known and new classes. With `detach_weight` it does not, and it
    rests at equality, at $\tau^2$ times the weighted mean of the entropies.

    Args:
        student: logits `(N, C, *)` over known and new classes.
        teacher: logits `(N, |K|, *)` of the model that was trained on the known classes, in the order of `known`; or
            `(N, C, *)`, of which the known ones are taken.
        known: channels of the known classes in the student; by default the first ones, as many as the teacher has.
        tau: temperature. (The authors' 4 is for cosine logits already divided by 0.1.)
        detach_weight: keep the gradient away from $k$.
        weight: `(N, *)`, positions to count: the samples of new classes.

    Raises:
        ValueError: the teacher has another number of classes than `known`.

    Paper: Gu et al., "Class-relation Knowledge Distillation for Novel Class Discovery", ICCV 2023, there with weight
    0.1. Mean over positions: factor 1.

    >>> s, t = torch.zeros(1, 3), torch.zeros(1, 2)  # two known classes, one new
    >>> crkd(s, t, tau=1.0).item()  # log(2)
    0.6931...
    """
    channels = slice(teacher.shape[1]) if known is None else list(known)
    if known is not None and teacher.shape[1] == student.shape[1]:
        teacher = teacher[:, channels]
    logits = student / tau
    old = logits[:, channels]
    if old.shape[1] != teacher.shape[1]:
        raise ValueError(f"crkd: a teacher of {teacher.shape[1]} classes for {old.shape[1]} known ones")
    k = F.softmax(logits, dim=1)[:, channels].sum(1)
    mean = weighted_mean(k, weight)
    share = k / torch.where(mean > 0, mean, 1.0)  # 0 of an empty selection
    each = (F.softmax(teacher / tau, dim=1) * F.log_softmax(old, dim=1)).sum(1)
    return -(tau**2) * weighted_mean((share.detach() if detach_weight else share) * each, weight)
