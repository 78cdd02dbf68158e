"""Distillation losses for nodes `(N, C)` and maps `(N, C, H, W)` alike: a node is a pixel with no height and width.

>>> import torch, kdlosses
>>> loss = kdlosses.build(dict(type="kl", tau=4.0))
>>> loss(torch.zeros(5, 3), torch.zeros(5, 3)).item()  # five nodes, three classes
0.0
>>> loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)).item()  # two maps, three classes
0.0
"""

__version__ = "0.1.0"

from kdlosses.feature import at, cosine, cwd, mse, pkd
from kdlosses.logit import dist, kl, nkd
from kdlosses.reduce import weighted_mean
from kdlosses.registry import CONTEXT, LOSSES, Loss, build, nearest, register

__all__ = [
    "CONTEXT",
    "LOSSES",
    "Loss",
    "at",
    "build",
    "cosine",
    "cwd",
    "dist",
    "kl",
    "mse",
    "nearest",
    "nkd",
    "pkd",
    "register",
    "weighted_mean",
]
