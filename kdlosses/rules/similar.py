"""Weights of several source models by task similarity, from the labelled samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.relation.cka import cka


def task_similarity(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    r"""Task similarity of a source: linear CKA of its features and the one-hot labels, 0 to 1.

    Args:
        features: `(n, d)`, what the source says of labelled samples.
        labels: `(n,)`, 0 to `classes` - 1.
        classes: of the task.

    >>> labels = torch.tensor([0, 1, 2, 0, 1, 2])
    >>> round(task_similarity(5.0 * F.one_hot(labels, 3), labels, 3).item(), 4)
    1.0
    """
    features = features.float()
    return 1 - cka(features, F.one_hot(labels, classes).to(features.dtype))


def source_weights(similarity: Tensor, power: float = 1.0, nearest: bool = False) -> Tensor:
    r"""Weights of sources, $s_e^p / \sum_j s_j^p$: equal at power 0, only the most similar one at high powers.

    Args:
        similarity: s, `(E,)`, non-negative.
        power: p.
        nearest: leave the nearest alone.

    >>> source_weights(torch.tensor([0.2, 0.6])), source_weights(torch.tensor([0.2, 0.6]), nearest=True)
    (tensor([0.2500, 0.7500]), tensor([0., 1.]))
    """
    if nearest:
        return F.one_hot(similarity.argmax(), len(similarity)).to(similarity.dtype)
    return (power * similarity.clamp_min(torch.finfo(similarity.dtype).tiny).log()).softmax(0)
