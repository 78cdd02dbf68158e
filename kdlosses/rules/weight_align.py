from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def weight_align(layer: nn.Module, old: int) -> float:
    r"""Correct the bias of a last layer towards the most recently learned classes.

    $$ w_c \leftarrow \gamma \, w_c \;\; (c \ge \mathrm{old}), \qquad
       \gamma = \frac{\mathrm{mean}_{c < \mathrm{old}} \|w_c\|}{\mathrm{mean}_{c \ge \mathrm{old}} \|w_c\|} $$

    After training, not during; after each group of new classes in turn. Old rows and all biases stay as they are, and
    so does the order among the new classes where their biases are equal. A second call changes nothing.

    Args:
        layer: a linear layer or a convolution with a row of weights `(classes, ...)` for each class, changed in place.
        old: number of classes that were there before; theirs are the first rows.

    Returns:
        $\gamma$, below 1 where the new classes were favoured.

    Raises:
        ValueError: no old or no new class, or the new rows are all 0.

    Paper: Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020.

    >>> layer = nn.Linear(2, 3)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 10.0], [6.0, 8.0]]))
    >>> weight_align(layer, old=1), layer.weight[2].tolist()
    (0.5, [3.0, 4.0])
    """
    weight = layer.weight
    if not isinstance(weight, torch.Tensor) or not 0 < old < len(weight):
        rows = len(weight) if isinstance(weight, torch.Tensor) else 0
        raise ValueError(f"weight_align: of {rows} classes 1 to {rows - 1} can be old, got {old}")
    norms = weight.flatten(1).norm(dim=1)
    if not norms[old:].any():
        raise ValueError(f"weight_align: the rows of the classes from {old} on are all 0: they were never trained")
    gamma = norms[:old].mean() / norms[old:].mean()
    weight[old:] *= gamma
    return gamma.item()
