from __future__ import annotations

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """First-in, first-out queue of recent features, a buffer: saved in checkpoints, not trained.

    Under `DistributedDataParallel` every process goes on with the queue of the first, which is how buffers are kept.

    Args:
        size: number of places.
        channels: C.

    >>> queue = Queue(size=3, channels=1)
    >>> for value in (1.0, 2.0, 3.0, 4.0):
    ...     queue.push(torch.tensor([[value]]), torch.ones(1))
    >>> queue.items.flatten().tolist(), queue.weight.tolist()
    ([4.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    """

    items: Tensor
    weight: Tensor
    pointer: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue: size must be at least 1, got {size}")
        self.register_buffer("items", torch.zeros(size, channels))
        self.register_buffer("weight", torch.zeros(size))  # 0: a place that is empty
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def with_batch(self, items: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored rows followed by rows `(n, C)` with weight `(n,)`, as `(size + n, C)`, and log weights.

        The logarithm of 0 is finite, so that it can be multiplied by 0.
        """
        log_w = torch.cat([self.weight.to(weight.dtype), weight]).log().clamp_min(torch.finfo(weight.dtype).min / 4)
        return torch.cat([self.items.to(items.dtype), items]), log_w

    @torch.no_grad()
    def push(self, items: Tensor, weight: Tensor) -> None:
        """Append rows `(n, C)` with weight `(n,)`; rows of weight 0, and rows beyond the queue's size, are skipped."""
        size = len(self.weight)
        kept = weight > 0
        # which of the kept rows lands on each place: no shape depends on their number
        rank = (torch.arange(size, device=weight.device) - self.pointer) % size
        taken = rank < kept.sum()
        source = torch.argsort(~kept, stable=True)[rank.clamp(max=len(weight) - 1)]
        self.items.copy_(torch.where(taken.unsqueeze(1), items[source].to(self.items.dtype), self.items))
        self.weight.copy_(torch.where(taken, weight[source].to(self.weight.dtype), self.weight))
        self.pointer.copy_((self.pointer + kept.sum().clamp(max=size)) % size)
