"""Labels that a detector's head assigns to its priors, as losses read them: at each sigmoid, or at each location."""

from __future__ import annotations

import torch
from torch import Tensor


def of_sigmoids(assigned: Tensor, rows: int) -> Tensor:
    """Whether the object of a prior is of the class of a sigmoid: 1 or 0; background is 0 in all, ignored ones stay -1.

    Args:
        assigned: class of each prior `(B, A, h, w)`; that after the last is background, -1 is ignored.
        rows: B A K, sigmoids of the batch; the channels of a map are those of the first prior, then of the next.

    Returns:
        `(B A K, h, w)`.

    >>> of_sigmoids(torch.tensor([[[[0, 1, 2, -1]]]]), rows=2).tolist()
    [[[1, 0, 0, -1]], [[0, 1, 0, -1]]]
    """
    classes = torch.arange(rows // (assigned.shape[0] * assigned.shape[1]), device=assigned.device)
    each = assigned.unsqueeze(2)
    return (each == classes.view(-1, 1, 1)).long().where(each >= 0, -1).flatten(0, 2)


def of_locations(assigned: Tensor, classes: int) -> Tensor:
    """Class of each location `(B, h, w)`: that of the first of its priors that has an object; -1 if none has.

    Background is no class of a head of sigmoids, so that a loss that reads one class a position leaves it out.

    Args:
        assigned: class of each prior `(B, A, h, w)`; that after the last is background, -1 is ignored.
        classes: K, how many there are.

    >>> of_locations(torch.tensor([[[[3, 3, -1]], [[3, 1, 2]]]]), classes=3).tolist()
    [[[-1, 1, 2]]]
    """
    found = (assigned >= 0) & (assigned < classes)
    first = assigned.gather(1, found.long().argmax(1, keepdim=True)).squeeze(1)
    return first.where(found.any(1), -1)
