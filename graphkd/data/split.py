"""Which nodes to train on, to select on and to test on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Node ids to train on, to select on and to test on.

    Raises:
        ValueError: a part is empty, or two parts share a node.
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        for key in ("train", "val", "test"):
            if not len(getattr(self, key)):
                raise ValueError(f"the split has no {key} nodes")
        ids = torch.cat([self.train, self.val, self.test])
        if len(ids.unique()) != len(ids):
            raise ValueError("the split is no split: a node stands in it twice")
