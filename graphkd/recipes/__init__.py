"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphkd.mlp import MLP
from graphkd.recipes.ddk import ddk
from graphkd.recipes.dho import dho
from graphkd.recipes.diff_quant import diff_quant
from graphkd.recipes.distill_weighted import distill_weighted
from graphkd.recipes.dual_head import dual_head
from graphkd.recipes.ffg2m import ffg2m
from graphkd.recipes.glnn import glnn
from graphkd.recipes.hard import hard
from graphkd.recipes.incremental import incremental
from graphkd.recipes.kd3 import kd3
from graphkd.recipes.m2m import m2m
from graphkd.recipes.mixup import mixup
from graphkd.recipes.mtard import mtard
from graphkd.recipes.partition import partition
from graphkd.recipes.pruned import pruned
from graphkd.recipes.quant_distill import quant_distill
from graphkd.recipes.rad import rad
from graphkd.recipes.random_teacher import random_teacher
from graphkd.recipes.rounded import rounded
from graphkd.recipes.selfdistill import selfdistill
from graphkd.recipes.supervised import supervised
from graphkd.recipes.talking import talking
from graphkd.recipes.terms import terms
from graphkd.recipes.tfkd_self import tfkd_self
from graphkd.recipes.tgeo import tgeo
from graphkd.recipes.voting import voting
from graphkd.recipes.weight_align import weight_align

RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        ddk,
        dho,
        diff_quant,
        distill_weighted,
        dual_head,
        ffg2m,
        glnn,
        hard,
        incremental,
        kd3,
        m2m,
        mixup,
        mtard,
        partition,
        pruned,
        quant_distill,
        rad,
        random_teacher,
        rounded,
        selfdistill,
        supervised,
        talking,
        terms,
        tfkd_self,
        tgeo,
        voting,
        weight_align,
    )
}

TELLS: dict[str, tuple[str, ...]] = {}
"""What a recipe asks of its teacher beyond logits and hidden layers, by the names of `graphkd.teach`."""

NETWORKS: dict[str, Callable[..., Any]] = {}
"""The network that a recipe trains, where that is not an `MLP`; built with the same arguments."""


def nested(method: str | Mapping[str, Any] | Callable[..., Any]) -> Iterator[str]:
    """Names of a recipe and of the recipes that it is put around, outermost first.

    >>> list(nested(dict(type="mixup", method=dict(type="glnn", lam=0.5))))
    ['mixup', 'glnn']
    """
    inner = method.get("type") if isinstance(method, Mapping) else method
    yield inner.__name__ if callable(inner) else str(inner)
    if isinstance(method, Mapping) and "method" in method:
        yield from nested(method["method"])


def asked(method: str | Mapping[str, Any] | Callable[..., Any]) -> set[str]:
    """All that a method asks of its teacher, see `TELLS`."""
    return {what for name in nested(method) for what in TELLS.get(name, ())}


def network_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> Callable[..., Any]:
    """The network that a method trains: that of the innermost recipe which has one of its own."""
    return next((NETWORKS[name] for name in reversed(list(nested(method))) if name in NETWORKS), MLP)


__all__ = [
    "NETWORKS",
    "RECIPES",
    "TELLS",
    "asked",
    "ddk",
    "dho",
    "diff_quant",
    "distill_weighted",
    "dual_head",
    "ffg2m",
    "glnn",
    "hard",
    "incremental",
    "kd3",
    "m2m",
    "mixup",
    "mtard",
    "nested",
    "network_of",
    "partition",
    "pruned",
    "quant_distill",
    "rad",
    "random_teacher",
    "rounded",
    "selfdistill",
    "supervised",
    "talking",
    "terms",
    "tfkd_self",
    "tgeo",
    "voting",
    "weight_align",
]
