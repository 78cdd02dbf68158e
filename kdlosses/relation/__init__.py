"""Losses on relations between positions. One loss a file; file, function and registry key have one name."""

from kdlosses.relation.cka import cka
from kdlosses.relation.hybrid import hybrid
from kdlosses.relation.ifvd import ifvd
from kdlosses.relation.pkt import pkt
from kdlosses.relation.rkd import rkd
from kdlosses.relation.rsd_gram import rsd_gram
from kdlosses.relation.sp import sp
from kdlosses.relation.trg import trg

__all__ = [
    "cka",
    "hybrid",
    "ifvd",
    "pkt",
    "rkd",
    "rsd_gram",
    "sp",
    "trg",
]
