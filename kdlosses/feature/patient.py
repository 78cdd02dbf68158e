from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.unit import cosines


@register(categorical=True)
def patient(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Patient distillation: squared distance of the hidden states of a position, both scaled to length 1.

    $$ L = \sum_i w_i \Big\| \frac{f^s_i}{\|f^s_i\|} - \frac{f^t_i}{\|f^t_i\|} \Big\|^2 \Big/ \sum_i w_i
         = \sum_i w_i \, 2 (1 - \cos_i) \Big/ \sum_i w_i \;\in [0, 4] $$

    It is computed in the second form, twice `cosine`, so a zero vector counts 2. To match the class token alone, give
    it alone, or a weight that selects it.

    Args:
        student: hidden states `(N, C, *)`.
        teacher: hidden states `(N, C, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019. Factor 1 a layer.

    >>> import torch
    >>> patient(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])).item()
    2.0
    """
    return 2 * weighted_mean(1 - cosines(student, teacher, dim=1), weight)
