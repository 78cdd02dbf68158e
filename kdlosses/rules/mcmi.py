"""Fine-tune a teacher so that its predictions differ among the members of a class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.class_means import class_means as means_of
from kdlosses.reduce import labelled, weighted_mean


def class_means(logits: Tensor, labels: Tensor, ignore_index: int = 255, weight: Tensor | None = None) -> Tensor:
    r"""Mean prediction of the members of each class, $Q_c = \sum_{i: y_i = c} w_i P_i / \sum_{i: y_i = c} w_i$.

    Args:
        logits: `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` counts for nothing.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Returns:
        probabilities `(C, C)`, a row for each class; uniform where a class has no member. No gradient flows into it.

    Paper: Ye et al., "Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information", ICLR 2024.

    >>> class_means(torch.tensor([[50.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    labels, weight = labelled(labels, weight, ignore_index, logits.shape[1])
    p = logits.detach().softmax(1).movedim(1, -1).flatten(0, -2)
    means, size = means_of(p, labels.flatten(), weight.flatten(), p.shape[1])
    return means.masked_fill(size.unsqueeze(1) == 0, 1 / p.shape[1])


def conditional_information(
    logits: Tensor,
    labels: Tensor,
    means: Tensor | None = None,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Conditional mutual information of input and output given the class, in nats: spread within a class.

    $$ I = \frac{1}{\sum_i w_i} \sum_i w_i \, \mathrm{KL}(P_i \,\|\, Q_{y_i}), \quad P = \mathrm{softmax}(z) $$

    With the means of the same positions it is, class by class, the entropy of the mean less the mean of the entropies,
    and 0 if and only if all members of a class are predicted alike.

    Args:
        logits: `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` counts for nothing.
        means: Q `(C, C)`, see `class_means`; of these positions if not given. They count as constants, which costs
            nothing of the gradient: at the mean, $\sum_i \mathrm{KL}(P_i \| Q)$ is least in Q.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Ye et al., "Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information", ICLR 2024.

    >>> y, z = torch.tensor([0, 0, 1, 1]), torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    >>> alike, unlike = conditional_information(z[:2], y[:2]), conditional_information(z[2:], y[2:])
    >>> round(abs(alike.item()), 3), round(unlike.item(), 3)
    (0.0, 0.199)
    """
    if means is None:
        means = class_means(logits, labels, ignore_index, weight)
    labels, weight = labelled(labels, weight, ignore_index, logits.shape[1])
    floor = torch.finfo(means.dtype).tiny  # a class that no member is predicted as
    log_q = means.detach().clamp_min(floor).log()[labels].movedim(-1, 1)
    log_p = F.log_softmax(logits, dim=1)
    return weighted_mean(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1), weight)


def mcmi(
    logits: Tensor,
    labels: Tensor,
    means: Tensor | None = None,
    lam: float = 0.15,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Loss to fine-tune a teacher: cross-entropy minus the spread of predictions within a class.

    $$ L = \frac{1}{\sum_i w_i} \sum_i w_i \big( \mathrm{CE}(z_i, y_i)
           - \lambda \, \mathrm{KL}(P_i \,\|\, Q_{y_i}) \big) $$

    A trained teacher predicts all members of a class nearly alike, and a student learns little more from it than from
    the labels. The second term spreads them. It has no lower bound that the cross-entropy would keep: a large
    $\lambda$ buys it with accuracy.

    Args:
        logits: the teacher's, `(N, C, *)`; the gradient flows.
        labels: `(N, *)`, class indices; negative or `ignore_index` counts for nothing.
        means: see `conditional_information`.
        lam: $\lambda$ (paper: 0.1 to 0.25); 0 is cross-entropy.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Ye et al., "Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information", ICLR 2024. Factor 1. The authors' code takes the class means once, before the fine-tuning.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> loss = mcmi(z, torch.tensor([0, 0])), mcmi(z, torch.tensor([0, 0]), lam=0.0)
    >>> bool(loss[0] < loss[1])
    True
    """
    target, counted = labelled(labels, weight, ignore_index, logits.shape[1])
    hard = weighted_mean(F.cross_entropy(logits, target, reduction="none"), counted)
    return hard - lam * conditional_information(logits, labels, means, ignore_index, weight)
