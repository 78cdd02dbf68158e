from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(match="positions")
def meal(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Cross-entropy with the mean prediction of several teachers, and with no labels.

    $$ l_i = -\sum_c \bar p_{ic} \log q_{ic}, \quad \bar p = \frac1K \sum_k \mathrm{softmax}(z^{t_k}), \;
       q = \mathrm{softmax}(z^s), \qquad L = \sum_i w_i l_i / \sum_i w_i. $$

    It is probabilities that are averaged, not logits. At best it is $H(\bar p)$. The authors add a discriminator that
    parts student from teacher; their code neither reverses nor stops its gradient, so that the student helps it. It is
    left out here.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, K C, *)`, those of the K teachers one after the other along axis 1.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the teacher's channels are no multiple of the student's.

    Paper: Shen and Savvides, "MEAL V2: Boosting Vanilla ResNet-50 to 80%+ Top-1 Accuracy on ImageNet without Tricks",
    2020. Factor 1.

    >>> import torch
    >>> one, other = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    >>> meal(torch.zeros(1, 2), torch.cat([one, other], dim=1)).item()  # they cancel out: log(2)
    0.6931...
    """
    classes = student.shape[1]
    if teacher.shape[1] % classes:
        raise ValueError(
            f"meal: the teachers' {teacher.shape[1]} channels must be a multiple of the student's {classes}"
        )
    mean = F.softmax(teacher.unflatten(1, (-1, classes)), dim=2).mean(1)
    return -weighted_mean((mean * F.log_softmax(student, dim=1)).sum(1), weight)
