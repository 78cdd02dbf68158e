"""Distillation losses for nodes `(N, C)` and maps `(N, C, H, W)` alike: a node is a pixel with no height and width.

>>> import torch, kdlosses
>>> loss = kdlosses.build(dict(type="kl", tau=4.0))
>>> loss(torch.zeros(5, 3), torch.zeros(5, 3)).item()  # five nodes, three classes
0.0
>>> loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)).item()  # two maps, three classes
0.0
"""

__version__ = "0.1.0"

from kdlosses.feature import DMAE, LEAF, ND, VID, Hint, at, cosine, cwd, hcl, mse, norm_feature, patient, pkd
from kdlosses.logit import (
    TAID,
    alpha_div,
    bd_kd,
    dist,
    dkd,
    jeffreys,
    js,
    kd,
    kl,
    nkd,
    ofa,
    rkl,
    sce,
    skew_kl,
    skew_rkl,
    ssld,
    topk_kl,
    tvd,
)
from kdlosses.reduce import weighted_mean
from kdlosses.registry import CONTEXT, LOSSES, Loss, build, nearest, register

__all__ = [
    "CONTEXT",
    "DMAE",
    "LEAF",
    "LOSSES",
    "ND",
    "TAID",
    "VID",
    "Hint",
    "Loss",
    "alpha_div",
    "at",
    "bd_kd",
    "build",
    "cosine",
    "cwd",
    "dist",
    "dkd",
    "hcl",
    "jeffreys",
    "js",
    "kd",
    "kl",
    "mse",
    "nearest",
    "nkd",
    "norm_feature",
    "ofa",
    "patient",
    "pkd",
    "register",
    "rkl",
    "sce",
    "skew_kl",
    "skew_rkl",
    "ssld",
    "topk_kl",
    "tvd",
    "weighted_mean",
]
