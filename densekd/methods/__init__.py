"""Named methods: one file, one function that returns the `distills` entries for a student and its teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

import densekd.losses  # noqa: F401  registers the losses that need maps
from densekd.methods.bpkd import bpkd
from densekd.methods.cwd import cwd
from densekd.methods.dist import dist
from densekd.methods.dmae import dmae
from densekd.methods.g2sd import g2sd
from densekd.methods.hybrid import hybrid
from densekd.methods.ifvd import ifvd
from densekd.methods.kl import kl
from densekd.methods.lad import lad
from densekd.methods.mgd import mgd
from densekd.methods.pkd import pkd
from densekd.methods.skd import skd
from densekd.methods.transkd import transkd, transkd_gl
from kdlosses import nearest

Entries = list[dict[str, Any]]
METHODS: dict[str, Callable[[nn.Module, nn.Module], Entries]] = {
    "bpkd": bpkd,
    "cwd": cwd,
    "dist": dist,
    "dmae": dmae,
    "g2sd": g2sd,
    "hybrid": hybrid,
    "ifvd": ifvd,
    "kl": kl,
    "lad": lad,
    "mgd": mgd,
    "pkd": pkd,
    "skd": skd,
    "transkd": transkd,
    "transkd_gl": transkd_gl,
}


def method_entries(name: str, student: nn.Module, teacher: nn.Module) -> Entries:
    """Return the entries of method `name`; an unknown name raises `KeyError` with the nearest."""
    if name not in METHODS:
        raise KeyError(f"no method is called {name!r}; {nearest(name, METHODS)}")
    return METHODS[name](student, teacher)
