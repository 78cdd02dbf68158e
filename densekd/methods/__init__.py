"""Named methods: one file, one function that returns the `distills` entries for a student and its teacher."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

import densekd.losses  # noqa: F401  registers the losses that need maps
from densekd.methods.acam import acam
from densekd.methods.bpkd import bpkd
from densekd.methods.cirkd import cirkd
from densekd.methods.cwd import cwd
from densekd.methods.dist import dist
from densekd.methods.dmae import dmae
from densekd.methods.g2sd import g2sd
from densekd.methods.hfd_bsd import hfd_bsd
from densekd.methods.hybrid import hybrid
from densekd.methods.ifvd import ifvd
from densekd.methods.kl import kl
from densekd.methods.lad import lad
from densekd.methods.maskd import maskd
from densekd.methods.mgd import mgd
from densekd.methods.mgd_semi import mgd_semi
from densekd.methods.omniscene import omniscene
from densekd.methods.pkd import pkd
from densekd.methods.pointdistiller import pointdistiller
from densekd.methods.skd import skd
from densekd.methods.transkd import transkd, transkd_ea, transkd_gl
from densekd.methods.unidistill import unidistill
from kdlosses import nearest

Entries = list[dict[str, Any]]
METHODS: dict[str, Callable[..., Entries]] = {
    "acam": acam,
    "bpkd": bpkd,
    "cirkd": cirkd,
    "cwd": cwd,
    "dist": dist,
    "dmae": dmae,
    "g2sd": g2sd,
    "hfd_bsd": hfd_bsd,
    "hybrid": hybrid,
    "ifvd": ifvd,
    "kl": kl,
    "lad": lad,
    "maskd": maskd,
    "mgd": mgd,
    "mgd_semi": mgd_semi,
    "omniscene": omniscene,
    "pkd": pkd,
    "pointdistiller": pointdistiller,
    "skd": skd,
    "transkd": transkd,
    "transkd_ea": transkd_ea,
    "transkd_gl": transkd_gl,
    "unidistill": unidistill,
}
ONLINE = {"hfd_bsd", "mgd_semi"}
"""Methods whose teachers learn beside the student."""


Method = str | Mapping[str, Any]


def method_entries(method: Method, student: nn.Module, teacher: nn.Module | Mapping[str, nn.Module]) -> Entries:
    """Return the entries of a method.

    Args:
        method: its name, or a dict with the name as `type` and options.
        student: the student.
        teacher: the teacher, or several by name: a method with parts for several takes those of their names, any other
            one the first.

    Raises:
        KeyError: no method of that name; the message names the nearest.
        TypeError: an option that the method does not have.
        ValueError: teachers of other names than the method gives them, or models that it is not for.
    """
    name = name_of(method)
    _, *parameters = inspect.signature(METHODS[name]).parameters.values()
    parts = [each.name for each in parameters if each.default is each.empty]
    options = {} if isinstance(method, str) else {key: value for key, value in method.items() if key != "type"}
    known = [each.name for each in parameters if each.name not in parts]
    for key in options:
        if key not in known:
            raise TypeError(f"method {name!r} has no option {key!r}; {nearest(key, known)}")
    models = teacher if isinstance(teacher, Mapping) else {"teacher": teacher}
    if len(parts) == 1:
        return METHODS[name](student, next(iter(models.values())), **options)
    if {*parts} != {*models}:
        raise ValueError(f"method {name!r} has the teachers {', '.join(parts)}; got {', '.join(models)}")
    return METHODS[name](student, *(models[part] for part in parts), **options)


def name_of(method: Method) -> str:
    """Return the name of a method; an unknown one raises `KeyError` with the nearest."""
    if not isinstance(method, str | Mapping):
        raise TypeError(f"a method is a name, or a dict with the name as 'type' and options, got {method!r}")
    name = method if isinstance(method, str) else method.get("type", "")
    if name not in METHODS:
        raise KeyError(f"no method is called {name!r}; {nearest(name, METHODS)}")
    return name
