from __future__ import annotations

import torch
from torch import Tensor, nn


class Queues(nn.Module):
    """One first-in, first-out queue for each class, a buffer: saved in checkpoints, not trained.

    What a step costs hardly depends on how long the queues are. They are kept in half precision, two bytes a channel,
    which moves what others are compared with by a thousandth. Each process of a distributed run has its own, unless
    buffers are broadcast.

    Args:
        classes: number of queues.
        size: places in each.
        channels: C.

    >>> queues = Queues(classes=2, size=3, channels=1)
    >>> for step in range(4):
    ...     queues.push(torch.full((2, 1, 1), step), torch.tensor([[True], [step == 1]]))
    >>> items, there = queues.draw(3)
    >>> items.squeeze(2).tolist(), there.tolist()
    ([[3.0, 1.0, 2.0], [1.0, 0.0, 0.0]], [[True, True, True], [True, False, False]])
    """

    items: Tensor
    taken: Tensor

    def __init__(self, classes: int, size: int, channels: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queues: size must be at least 1, got {size}")
        self.register_buffer("items", torch.zeros(classes, size, channels, dtype=torch.float16))
        self.register_buffer("taken", torch.zeros(classes, dtype=torch.long))  # in all, those gone included

    @torch.no_grad()
    def push(self, items: Tensor, kept: Tensor) -> None:
        """Append the rows of `(classes, n, C)` where `kept` `(classes, n)` is true, at most `size` of each class."""
        size = self.items.shape[1]
        order = torch.argsort(~kept, dim=1, stable=True)[:, :size]
        new = kept.gather(1, order)
        place = self._flat((self.taken.unsqueeze(1) + torch.arange(order.shape[1], device=order.device)) % size)
        every = self.items.flatten(0, 1)
        # the places behind the new rows get what they hold already: no shape depends on the number of new ones
        rows = items.gather(1, order.unsqueeze(2).expand(-1, -1, items.shape[2])).flatten(0, 1).to(every.dtype)
        every.index_copy_(0, place, torch.where(new.flatten().unsqueeze(1), rows, every[place]))
        self.taken.add_(new.sum(1))

    @torch.no_grad()
    def draw(self, number: int, at_random: bool = False) -> tuple[Tensor, Tensor]:
        """Return different rows `(classes, n, C)` of each class and a mask `(classes, n)` of those that exist.

        Args:
            number: n, at most the number of places.
            at_random: which ones, where there are more; else the same ones each time.
        """
        classes, size, _ = self.items.shape
        number = min(number, size)
        held, place = self.taken.clamp(max=size).unsqueeze(1), torch.arange(size, device=self.items.device)
        if at_random:
            lot = torch.rand(classes, size, device=place.device).masked_fill(place >= held, -1)
            index = lot.topk(number, dim=1).indices.sort(dim=1).values
        else:
            index = place[:number].expand(classes, -1)
        return self.items.flatten(0, 1)[self._flat(index)].unflatten(0, (classes, number)), index < held

    def _flat(self, place: Tensor) -> Tensor:
        """Places `(classes, n)` of each queue as rows of all queues together."""
        classes, size, _ = self.items.shape
        return (torch.arange(classes, device=place.device).unsqueeze(1) * size + place).flatten()
