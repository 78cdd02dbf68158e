"""Contrastive and prototype losses. One loss a file; file, function and registry key have one name."""

from kdlosses.contrastive.comodo import COMODO
from kdlosses.contrastive.crd import CRD
from kdlosses.contrastive.infonce import infonce

__all__ = [
    "COMODO",
    "CRD",
    "infonce",
]
