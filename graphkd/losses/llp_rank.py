from __future__ import annotations

from torch import Tensor

from kdlosses import register, weighted_mean


@register
def llp_rank(student: Tensor, teacher: Tensor, delta: float = 0.1, weight: Tensor | None = None) -> Tensor:
    r"""Ranking loss of LLP: a margin loss on pairs of scores that the teacher clearly orders.

    $$ L = \frac{1}{N} \sum_v \frac{2}{S (S - 1)} \sum_{(a, b) :\; t_{va} - t_{vb} > \delta}
       \max\bigl(0, \, \delta - (s_{va} - s_{vb})\bigr) $$

    over the S scores of each anchor v. 0 as soon as the student keeps all these pairs $\delta$ apart, however far; of
    pairs that are closer for the teacher it says nothing. One number added to all scores of an anchor, on either side,
    changes nothing. Costs O(N S^2).

    Args:
        student: scores `(N, S, *)`, of S partners of each of N anchors; logits of S classes will do as well.
        teacher: scores `(N, S, *)`, in the units of the student's.
        delta: $\delta$, in the units of the scores.
        weight: `(N, *)`, anchors to count.

    Paper: Guo et al., "Linkless Link Prediction via Relational Distillation", ICML 2023, on probabilities with a margin
    of 0.05 to 0.2; summed over pairs and anchors there, 1 here is 2 / (N S (S - 1)) of that. The authors' code takes
    this mean, and in it counts $\delta$ for each pair of which the teacher says nothing: the same gradient.

    >>> import torch
    >>> t = torch.tensor([[0.9, 0.5, 0.45]])  # two of three pairs differ by more than 0.1
    >>> llp_rank(torch.tensor([[0.9, 0.2, 0.7]]), t).item(), llp_rank(torch.zeros(1, 3), t).item()
    (0.0, 0.0666...)
    """
    scores = student.shape[1]
    if scores < 2:
        raise ValueError(f"llp_rank compares the scores of an anchor and needs two, got {tuple(student.shape)}")
    ahead = teacher.unsqueeze(2) - teacher.unsqueeze(1)
    counts = (ahead > delta) + 0 * ahead  # the second term is 0, and NaN where the teacher is
    short = (delta - (student.unsqueeze(2) - student.unsqueeze(1))).relu()
    return weighted_mean((counts * short).sum((1, 2)) * (2 / (scores * (scores - 1))), weight)
