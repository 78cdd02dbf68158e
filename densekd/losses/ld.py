from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(categorical=True, maps=False)
def ld(student: Tensor, teacher: Tensor, sides: int = 4, tau: float = 10.0, weight: Tensor | None = None) -> Tensor:
    r"""Localisation distillation: the distribution of the distance to each side of a box.

    A head such as that of GFL tells each of the four distances as a softmax over $n + 1$ bins. With the logits of side
    e at position i

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \frac14 \sum_{e=1}^4 \sum_{k=0}^n p_{iek} \log \frac{p_{iek}}{q_{iek}},
       \quad p_{ie} = \mathrm{softmax}(z^t_{ie} / \tau), \; q_{ie} = \mathrm{softmax}(z^s_{ie} / \tau). $$

    A number that is added to all bins of a side changes nothing. The positions that count are those with an object:
    `where='objects'` in an entry, or `where='valuable'` near them.

    Args:
        student: logits `(N, sides (n + 1), *)`, the bins of a side one after the other.
        teacher: logits of the same shape.
        sides: 4; with 1 the channels are classes, and the loss is `kl`.
        tau: temperature; the factor $\tau^2$ keeps the size of the gradient.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the channels are no multiple of the sides, or there is a single bin.

    Paper: Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022. The authors' code takes the
    mean over bins and the sum over positions: its weight, 0.25, times $\sum_i w_i / (n + 1)$ is the weight here. Here
    the strength does not depend on the number of objects, images and bins.

    >>> import torch
    >>> t = torch.tensor([[0.0, 1.0986, 0.0, 1.0986]])
    >>> ld(torch.zeros(1, 4), t, sides=2, tau=1.0).item()  # KL((1/4, 3/4) || (1/2, 1/2)) for both sides
    0.1308...
    """
    channels = student.shape[1]
    if channels % sides or channels == sides:
        raise ValueError(f"ld: {channels} channels are no distributions over two bins or more for {sides} sides")
    s, t = (each.unflatten(1, (sides, -1)) / tau for each in (student, teacher))
    log_p, log_q = F.log_softmax(t, dim=2), F.log_softmax(s, dim=2)
    each = (log_p.exp() * (log_p - log_q)).sum(2).mean(1)
    return tau**2 * weighted_mean(each, weight)
