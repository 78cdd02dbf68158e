"""Distillation losses for nodes `(N, C)` and maps `(N, C, H, W)` alike: a node is a pixel with no height and width.

>>> import torch, kdlosses
>>> loss = kdlosses.build(dict(type="kl", tau=4.0))
>>> loss(torch.zeros(5, 3), torch.zeros(5, 3)).item()  # five nodes, three classes
0.0
>>> loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)).item()  # two maps, three classes
0.0
"""

__version__ = "0.1.0"

from kdlosses.contrastive import COMODO, CRD, infonce
from kdlosses.feature import DMAE, LEAF, ND, VID, Hint, at, cosine, cwd, g2sd, hcl, mse, norm_feature, patient, pkd
from kdlosses.logit import (
    DACKL,
    TAID,
    alpha_div,
    bd_kd,
    crkd,
    dhkd,
    dist,
    dkd,
    dse,
    ferkd,
    jeffreys,
    js,
    kd,
    kl,
    label_smoothing,
    meal,
    nkd,
    ofa,
    rkl,
    sce,
    sinkd,
    skew_kl,
    skew_rkl,
    ssld,
    std_kd,
    swing,
    tfkd_reg,
    topk_kl,
    tvd,
    uskd,
)
from kdlosses.reduce import weighted_mean
from kdlosses.registry import CONTEXT, LOSSES, Loss, build, nearest, register
from kdlosses.relation import cka, hybrid, pkt, rkd, sp, trg

__all__ = [
    "COMODO",
    "CONTEXT",
    "CRD",
    "DACKL",
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
    "cka",
    "cosine",
    "crkd",
    "cwd",
    "dhkd",
    "dist",
    "dkd",
    "dse",
    "ferkd",
    "g2sd",
    "hcl",
    "hybrid",
    "infonce",
    "jeffreys",
    "js",
    "kd",
    "kl",
    "label_smoothing",
    "meal",
    "mse",
    "nearest",
    "nkd",
    "norm_feature",
    "ofa",
    "patient",
    "pkd",
    "pkt",
    "register",
    "rkd",
    "rkl",
    "sce",
    "sinkd",
    "skew_kl",
    "skew_rkl",
    "sp",
    "ssld",
    "std_kd",
    "swing",
    "tfkd_reg",
    "topk_kl",
    "trg",
    "tvd",
    "uskd",
    "weighted_mean",
]
