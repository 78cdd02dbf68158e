"""Which nodes to train on, to select on and to test on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Node ids to train on, to select on and to test on.

    Raises:
        ValueError: a part is empty or holds no node ids, or two parts share a node.
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        for key in ("train", "val", "test"):
            part = getattr(self, key)
            if not isinstance(part, Tensor) or part.ndim != 1 or part.is_floating_point() or part.dtype is torch.bool:
                what = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"the split's {key} part holds node ids, a tensor (n,) of integers; got {what}"
                    + ("; of a mask take mask.nonzero().flatten()" if "bool" in what else "")
                )
            if not len(part):
                raise ValueError(f"the split has no {key} nodes")
        ids = torch.cat([self.train, self.val, self.test])
        if len(ids.unique()) != len(ids):
            raise ValueError("the split is no split: a node stands in it twice")
