from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.experts import mixture


class Votes(nn.Module):
    """The predictions of the last k snapshots of a model, and their mean.

    It is probabilities that are averaged, not logits and not parameters.

    Args:
        k: snapshots to keep.

    >>> votes = Votes(k=2)
    >>> votes.mean() is None
    True
    >>> for logits in ([9.0, 9.0], [50.0, -50.0], [0.0, 0.0]):
    ...     votes.add(torch.tensor([logits]))
    >>> votes.mean().exp()  # the oldest is forgotten
    tensor([[0.7500, 0.2500]])
    """

    kept: Tensor

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"votes: k is how many snapshots are kept, at least 1, got {k}")
        self.k = k
        self.register_buffer("kept", torch.empty(0))

    @torch.no_grad()
    def add(self, logits: Tensor) -> None:
        """Add the logits `(N, C, *)` of a snapshot; the oldest is dropped if there are more than k."""
        new = logits.detach().unsqueeze(1)
        self.kept = torch.cat([self.kept[:, 1 - self.k :], new], dim=1) if self.kept.numel() and self.k > 1 else new

    def mean(self) -> Tensor | None:
        """Logarithm of the mean prediction `(N, C, *)`; None before the first snapshot."""
        return mixture(self.kept) if self.kept.numel() else None
