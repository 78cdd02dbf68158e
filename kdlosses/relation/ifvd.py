from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.class_means import class_means
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.unit import cosines


@register(match="positions", categorical=True)
def ifvd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    classes: int,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Intra-class feature variation: match the similarity of each position to its class centre.

    With $\mu_{nk}$ the mean feature of the positions of class k in sample n, on either side of its own,

    $$ v_i = \cos\big(f_i, \mu_{n_i y_i}\big), \qquad L = \mathrm{mean}_i \, \big(v^s_i - v^t_i\big)^2 \;\in [0, 4]. $$

    Rotation and scale of either side change nothing, nor need the channels agree. A map is a sample, and so is a graph.
    A class that a sample lacks has no part in it; a position that is alone in its class costs nothing. Time and memory
    are those of the features, whatever the number of classes.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        classes: number of classes.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.

    Paper: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020. Factor 1;
    weight 20 on the feature before the logits, 200 by default in the authors' code, beside terms on logits. That code
    counts ignored positions in the mean, at a loss of 0: theirs is this one times the share of positions with a label.

    >>> import torch
    >>> f, y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]), torch.tensor([0, 0, 1])
    >>> ifvd(f, torch.ones(3, 1), y, classes=2).item()  # cosines 1 / sqrt(2), 1 / sqrt(2), 1 against 1, 1, 1
    0.0571...
    """
    labels, weight = labelled(labels, weight, ignore_index, classes)
    samples, sample = 1, labels.new_zeros(labels.shape)
    if labels.ndim > 1:
        samples = len(labels)
        sample = torch.arange(samples, device=labels.device).view(-1, *[1] * (labels.ndim - 1)).expand_as(labels)
    elif batch is not None:
        graphs, sample = torch.unique(batch, return_inverse=True)
        samples = len(graphs)
    group, counts = (sample * classes + labels).flatten(), weight.flatten()

    def variation(features: Tensor) -> Tensor:
        rows = features.movedim(1, -1).flatten(0, -2)
        centres, _ = class_means(rows, group, counts, samples * classes)
        return cosines(rows, centres[group], dim=1)

    return weighted_mean((variation(student) - variation(teacher)).square(), counts)
