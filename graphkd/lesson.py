"""What a student learns from: its own features, the labels it is told, and what the teacher left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.features import Matrix, rows
from graphkd.training import History


@dataclass(frozen=True, eq=False)
class Lesson:
    """All that a recipe may look at. Labels outside the training set and rows of unseen nodes are not in here.

    Attributes:
        x: features `(N, F)` in memory or on disk.
        labels: `(N,)`, -1 where the student is not told.
        train: the shared training loop with its schedule bound, to be called as `train(model, loss, nodes)`.
        generator: for whatever a recipe samples.
        teacher: logits `(N, C)` in memory or on disk.
        edge_index: `(2, E)` among these nodes.
        batch_size: labelled nodes in one step, None for all.
    """

    x: Matrix
    labels: Tensor
    train: Callable[[nn.Module, Callable[[Tensor | slice], Tensor], int], History]
    generator: torch.Generator
    teacher: Matrix | None = None
    edge_index: Tensor | None = None
    batch_size: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def teacher_logits(self) -> Matrix:
        """The teacher's logits, or an error that says where to pass them."""
        if self.teacher is None:
            raise ValueError("this recipe learns from a teacher: fit(..., teacher=logits or cache)")
        return self.teacher

    def edges(self) -> Tensor:
        """The edges, or an error that says where to pass them."""
        if self.edge_index is None:
            raise ValueError("this recipe learns from the edges: fit(..., edge_index=edges)")
        return self.edge_index

    def hard_loss(self, model: nn.Module) -> Tensor:
        """Cross-entropy on the labelled nodes, or on `batch_size` of them drawn anew."""
        told = (self.labels >= 0).nonzero().flatten()
        if self.batch_size is not None and self.batch_size < len(told):
            told = told[torch.randperm(len(told), generator=self.generator)[: self.batch_size]]
        return F.cross_entropy(model(rows(self.x, told)), self.labels[told])
