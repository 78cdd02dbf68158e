from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graphkd.teachers.call import call, uses_weights
from graphkd.training.latency import hops


class Ensemble(nn.Module):
    """Several teachers on the same graph, with concatenated outputs.

    Args:
        teachers: see `graphkd.teachers.call.call`.
        widths: how many columns of x each one reads, one after the other; if not given each reads all.
        classes: of each teacher, to identify its logits among its outputs.

    Shape: features `(N, F)` and edges `(2, E)` to their logits one after the other, as in a joined `Cache`.
    """

    def __init__(self, teachers: Sequence[nn.Module], widths: Sequence[int] = (), classes: int | None = None) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.widths, self.classes = list(widths), classes
        self.sparse = not widths and all(getattr(teacher, "sparse", False) for teacher in teachers)
        self.supports_edge_weight = all(uses_weights(teacher) for teacher in teachers)

    @property
    def hops(self) -> int:
        """Largest number of hops of a teacher; 0 if that of one is unknown."""
        found = [hops(teacher) for teacher in self.teachers]
        return max(found) if all(found) else 0

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        read = x.split(self.widths, 1) if self.widths else [x] * len(self.teachers)
        found = [
            call(teacher, each, edge_index, edge_weight, self.classes) for teacher, each in zip(self.teachers, read)
        ]
        return torch.cat(found, dim=1)
