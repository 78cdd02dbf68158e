"""Contrastive and prototype losses. One loss a file; file, function and registry key have one name."""

from kdlosses.contrastive.cmd import CMD
from kdlosses.contrastive.comodo import COMODO
from kdlosses.contrastive.crd import CRD
from kdlosses.contrastive.dino import DINO
from kdlosses.contrastive.infonce import infonce
from kdlosses.contrastive.mi_alpha import MIAlpha
from kdlosses.contrastive.prockd import ProCKD
from kdlosses.contrastive.prokd import ProKD

__all__ = [
    "CMD",
    "COMODO",
    "CRD",
    "DINO",
    "MIAlpha",
    "ProCKD",
    "ProKD",
    "infonce",
]
