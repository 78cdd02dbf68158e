"""Losses on logits `(N, classes, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.logit.alpha_div import alpha_div
from kdlosses.logit.dist import dist
from kdlosses.logit.jeffreys import jeffreys
from kdlosses.logit.js import js
from kdlosses.logit.kd import kd
from kdlosses.logit.kl import kl
from kdlosses.logit.nkd import nkd
from kdlosses.logit.rkl import rkl
from kdlosses.logit.skew_kl import skew_kl
from kdlosses.logit.skew_rkl import skew_rkl
from kdlosses.logit.ssld import ssld
from kdlosses.logit.tvd import tvd

__all__ = ["alpha_div", "dist", "jeffreys", "js", "kd", "kl", "nkd", "rkl", "skew_kl", "skew_rkl", "ssld", "tvd"]
