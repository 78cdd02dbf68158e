"""Losses on logits `(N, classes, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.logit.alpha_div import alpha_div
from kdlosses.logit.assistive import assistive
from kdlosses.logit.bd_kd import bd_kd
from kdlosses.logit.bsd_pixel import bsd_pixel
from kdlosses.logit.crkd import crkd
from kdlosses.logit.dac_kl import DACKL
from kdlosses.logit.dhkd import dhkd
from kdlosses.logit.dist import dist
from kdlosses.logit.dkd import dkd
from kdlosses.logit.dse import dse
from kdlosses.logit.ferkd import ferkd
from kdlosses.logit.jeffreys import jeffreys
from kdlosses.logit.js import js
from kdlosses.logit.kd import kd
from kdlosses.logit.kl import kl
from kdlosses.logit.label_smoothing import label_smoothing
from kdlosses.logit.lelp import LELP
from kdlosses.logit.meal import meal
from kdlosses.logit.nkd import nkd
from kdlosses.logit.ofa import ofa
from kdlosses.logit.pseudo import pseudo
from kdlosses.logit.rkl import rkl
from kdlosses.logit.sce import sce
from kdlosses.logit.sinkd import sinkd
from kdlosses.logit.skew_kl import skew_kl
from kdlosses.logit.skew_rkl import skew_rkl
from kdlosses.logit.ssld import ssld
from kdlosses.logit.std_kd import std_kd
from kdlosses.logit.swing import swing
from kdlosses.logit.taid import TAID
from kdlosses.logit.tfkd_reg import tfkd_reg
from kdlosses.logit.topk_kl import topk_kl
from kdlosses.logit.tvd import tvd
from kdlosses.logit.uskd import uskd

__all__ = [
    "DACKL",
    "LELP",
    "TAID",
    "alpha_div",
    "assistive",
    "bd_kd",
    "bsd_pixel",
    "crkd",
    "dhkd",
    "dist",
    "dkd",
    "dse",
    "ferkd",
    "jeffreys",
    "js",
    "kd",
    "kl",
    "label_smoothing",
    "meal",
    "nkd",
    "ofa",
    "pseudo",
    "rkl",
    "sce",
    "sinkd",
    "skew_kl",
    "skew_rkl",
    "ssld",
    "std_kd",
    "swing",
    "tfkd_reg",
    "topk_kl",
    "tvd",
    "uskd",
]
