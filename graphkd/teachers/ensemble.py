from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Several teachers side by side.

    Args:
        teachers: called as `teacher(x, edge_index)`.

    Shape: features `(N, F)` and edges `(2, E)` to their logits one after the other, as in a joined `Cache`.
    """

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.sparse = all(getattr(teacher, "sparse", False) for teacher in teachers)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return torch.cat([teacher(x, edge_index) for teacher in self.teachers], dim=1)
