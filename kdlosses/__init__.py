"""Distillation losses for nodes `(N, C)` and maps `(N, C, H, W)`.

>>> import torch, kdlosses
>>> loss = kdlosses.build(dict(type="kl", tau=4.0))
>>> loss(torch.zeros(5, 3), torch.zeros(5, 3)).item()  # five nodes, three classes
0.0
>>> loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)).item()  # two maps, three classes
0.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlosses import contrastive, feature, logit, policy, relation
from kdlosses.reduce import weighted_mean
from kdlosses.registry import CONTEXT, LOSSES, Loss, build, nearest, register

__version__ = "0.1.0"

_GROUPS = (logit, feature, relation, contrastive, policy)
globals().update({name: getattr(group, name) for group in _GROUPS for name in group.__all__})
__all__ = ["CONTEXT", "LOSSES", "Loss", "build", "nearest", "register", "weighted_mean"]
__all__ += [name for group in _GROUPS for name in group.__all__]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
