"""Losses on logits `(N, classes, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.logit.dist import dist
from kdlosses.logit.kl import kl
from kdlosses.logit.nkd import nkd

__all__ = ["dist", "kl", "nkd"]
