"""Cross-entropy with a smoothed label: a fixed confidence in the label, the rest uniform."""

from __future__ import annotations

from torch import Tensor


def smoothed_cross_entropy(log_q: Tensor, labels: Tensor, confidence: float) -> Tensor:
    r"""$-\sum_c u_c \log q_c$ with $u_y$ = `confidence` and the rest shared evenly among the other classes.

    Args:
        log_q: log-probabilities `(N, C, *)`, C of at least 2.
        labels: `(N, *)`, indices that are in range.
        confidence: probability of the label.

    Returns:
        `(N, *)`, in nats. The target itself is never laid out.

    >>> import torch
    >>> smoothed_cross_entropy(torch.tensor([[0.25, 0.5, 0.25]]).log2(), torch.tensor([1]), 0.9)  # 0.9 + 0.1 * 2 bits
    tensor([1.1000])
    """
    classes = log_q.shape[1]
    if classes < 2:
        raise ValueError(f"label smoothing requires at least two classes, got logits of shape {tuple(log_q.shape)}")
    rest = (1 - confidence) / (classes - 1)
    return (rest - confidence) * log_q.gather(1, labels.unsqueeze(1)).squeeze(1) - rest * log_q.sum(1)
