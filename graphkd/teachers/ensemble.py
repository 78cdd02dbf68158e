from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Several teachers side by side.

    Args:
        teachers: called as `teacher(x, edge_index)`.
        widths: how many columns of x each one reads, one after the other; if not given each reads all.

    Shape: features `(N, F)` and edges `(2, E)` to their logits one after the other, as in a joined `Cache`.
    """

    def __init__(self, teachers: Sequence[nn.Module], widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.widths = list(widths)
        self.sparse = not widths and all(getattr(teacher, "sparse", False) for teacher in teachers)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        read = x.split(self.widths, 1) if self.widths else [x] * len(self.teachers)
        return torch.cat([teacher(each, edge_index) for teacher, each in zip(self.teachers, read)], dim=1)
