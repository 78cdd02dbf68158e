"""Losses on logits `(N, classes, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.logit.alpha_div import alpha_div
from kdlosses.logit.bd_kd import bd_kd
from kdlosses.logit.dist import dist
from kdlosses.logit.dkd import dkd
from kdlosses.logit.jeffreys import jeffreys
from kdlosses.logit.js import js
from kdlosses.logit.kd import kd
from kdlosses.logit.kl import kl
from kdlosses.logit.nkd import nkd
from kdlosses.logit.ofa import ofa
from kdlosses.logit.rkl import rkl
from kdlosses.logit.sce import sce
from kdlosses.logit.skew_kl import skew_kl
from kdlosses.logit.skew_rkl import skew_rkl
from kdlosses.logit.ssld import ssld
from kdlosses.logit.taid import TAID
from kdlosses.logit.topk_kl import topk_kl
from kdlosses.logit.tvd import tvd

__all__ = [
    "TAID",
    "alpha_div",
    "bd_kd",
    "dist",
    "dkd",
    "jeffreys",
    "js",
    "kd",
    "kl",
    "nkd",
    "ofa",
    "rkl",
    "sce",
    "skew_kl",
    "skew_rkl",
    "ssld",
    "topk_kl",
    "tvd",
]
