"""Losses on features `(N, channels, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.feature.at import at
from kdlosses.feature.cosine import cosine
from kdlosses.feature.cwd import cwd
from kdlosses.feature.dmae import DMAE
from kdlosses.feature.g2sd import g2sd
from kdlosses.feature.hcl import hcl
from kdlosses.feature.hint import Hint
from kdlosses.feature.leaf import LEAF
from kdlosses.feature.mse import mse
from kdlosses.feature.nd import ND
from kdlosses.feature.norm_feature import norm_feature
from kdlosses.feature.patient import patient
from kdlosses.feature.pkd import pkd
from kdlosses.feature.talking import Talking
from kdlosses.feature.vid import VID
from kdlosses.feature.vq_code_kl import VQCodeKL

__all__ = [
    "DMAE",
    "LEAF",
    "ND",
    "VID",
    "Hint",
    "Talking",
    "VQCodeKL",
    "at",
    "cosine",
    "cwd",
    "g2sd",
    "hcl",
    "mse",
    "norm_feature",
    "patient",
    "pkd",
]
