from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.unit import cosines


@register(categorical=True)
def cosine(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""One minus the cosine between the channel vectors of a position.

    $$ L = \sum_i w_i \Big(1 - \frac{\langle f^s_i, f^t_i \rangle}{\|f^s_i\| \, \|f^t_i\|}\Big) \Big/ \sum_i w_i
       \;\in [0, 2] $$

    Only directions matter: rescaling a position of either side changes nothing. It is half the squared distance of the
    normalised vectors. A zero vector has cosine 0.

    Args:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        weight: `(N, *)`, positions to count.

    Paper: the form is common; Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019, use
    the squared distance of the normalised vectors (factor 2).

    >>> import torch
    >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])).item()
    1.0
    """
    return weighted_mean(1 - cosines(student, teacher, dim=1), weight)
