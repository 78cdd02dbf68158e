"""Several teachers in one tensor `(N, E C, *)`, concatenated along the channels: split and mix them."""

from __future__ import annotations

import math

from torch import Tensor


def experts(teacher: Tensor, classes: int, policy: str) -> Tensor:
    """Split `(N, E C, *)` into `(N, E, C, *)`.

    Raises:
        ValueError: the channels are no multiple of `classes`; names the `policy` that wanted them to be.

    >>> import torch
    >>> experts(torch.zeros(4, 6), 3, "average").shape
    torch.Size([4, 2, 3])
    """
    if not classes or not teacher.shape[1] or teacher.shape[1] % classes:
        raise ValueError(
            f"{policy}: the teachers' {teacher.shape[1]} channels must be a multiple of the student's {classes}"
        )
    return teacher.unflatten(1, (-1, classes))


def mixture(logits: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Logarithm of a mean of predictions, $\log \sum_e a_e \, \mathrm{softmax}(z^{(e)})$: not a mean of logits.

    Args:
        logits: `(N, E, C, *)`.
        weight: $a$, `(E,)` or `(N, E, *)`, of sum 1 over the teachers; 1 / E each if not given.

    Returns:
        log-probabilities `(N, C, *)`.

    >>> import torch
    >>> mixture(torch.tensor([[[50.0, -50.0], [0.0, 0.0]]])).exp()
    tensor([[0.7500, 0.2500]])
    """
    log_p = logits.log_softmax(2)
    if weight is None:
        return log_p.logsumexp(1) - math.log(logits.shape[1])
    if weight.ndim == 1:
        weight = weight.reshape(1, -1, *[1] * (logits.ndim - 3))
    return (log_p + weight.to(log_p.dtype).log().unsqueeze(2)).logsumexp(1)


def consensus(teacher: Tensor, classes: int, policy: str) -> Tensor:
    """Prediction `(N, C, *)` of one teacher or of several: the logits of one as they are, of several their mixture.

    >>> import torch
    >>> consensus(torch.tensor([[50.0, -50.0, 0.0, 0.0]]), 2, "average").exp()
    tensor([[0.7500, 0.2500]])
    """
    return teacher if teacher.shape[1] == classes else mixture(experts(teacher, classes, policy))
