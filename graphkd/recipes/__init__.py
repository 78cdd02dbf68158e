"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from graphkd.boosted import Boosted
from graphkd.data.positions import Inputs, with_positions
from graphkd.data.setting import Setting
from graphkd.lesson import check_lam
from graphkd.mlp import MLP
from graphkd.recipes.adagmlp import adagmlp
from graphkd.recipes.annotator import annotator
from graphkd.recipes.best import best
from graphkd.recipes.curvature import curvature
from graphkd.recipes.ddk import ddk
from graphkd.recipes.dho import dho
from graphkd.recipes.diff_quant import diff_quant
from graphkd.recipes.distill_weighted import distill_weighted
from graphkd.recipes.dual_head import dual_head
from graphkd.recipes.ffg2m import ffg2m
from graphkd.recipes.glem import glem
from graphkd.recipes.glnn import glnn
from graphkd.recipes.hard import hard
from graphkd.recipes.hgmd import hgmd
from graphkd.recipes.incremental import incremental
from graphkd.recipes.kd3 import kd3
from graphkd.recipes.krd import krd
from graphkd.recipes.lingugkd import lingugkd
from graphkd.recipes.m2m import m2m
from graphkd.recipes.mixup import mixup
from graphkd.recipes.mtard import mtard
from graphkd.recipes.nosmog import nosmog
from graphkd.recipes.partition import partition
from graphkd.recipes.pruned import pruned
from graphkd.recipes.quant_distill import quant_distill
from graphkd.recipes.rad import rad
from graphkd.recipes.random_teacher import random_teacher
from graphkd.recipes.rounded import rounded
from graphkd.recipes.selfdistill import selfdistill
from graphkd.recipes.simmlp import simmlp
from graphkd.recipes.supervised import supervised
from graphkd.recipes.talking import talking
from graphkd.recipes.terms import terms
from graphkd.recipes.tfkd_self import tfkd_self
from graphkd.recipes.tgeo import tgeo
from graphkd.recipes.tined import tined
from graphkd.recipes.voting import voting
from graphkd.recipes.vqgraph import vqgraph
from graphkd.recipes.weight_align import weight_align
from graphkd.spec import resolve
from graphkd.term import check_entry

RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        adagmlp,
        annotator,
        best,
        curvature,
        ddk,
        dho,
        diff_quant,
        distill_weighted,
        dual_head,
        ffg2m,
        glem,
        glnn,
        hard,
        hgmd,
        incremental,
        kd3,
        krd,
        lingugkd,
        m2m,
        mixup,
        mtard,
        nosmog,
        partition,
        pruned,
        quant_distill,
        rad,
        random_teacher,
        rounded,
        selfdistill,
        simmlp,
        supervised,
        talking,
        terms,
        tfkd_self,
        tgeo,
        tined,
        voting,
        vqgraph,
        weight_align,
    )
}

OF_GRAPH_NETWORKS = {recipe.__name__: recipe for recipe in (annotator, glem, lingugkd, supervised)}
"""The recipes whose student may itself be a graph network: they ask the model through `Lesson.outputs`."""

TELLS: dict[str, tuple[str, ...]] = {"krd": ("noisy",), "tined": ("weights",)}
"""What a recipe asks of its teacher beyond logits and hidden layers, by the names of `graphkd.teach`."""

NETWORKS: dict[str, Callable[..., Any]] = {"adagmlp": Boosted}
"""The network that a recipe trains, where that is not an `MLP`; built with the same arguments."""

INPUTS: dict[str, Callable[..., Inputs]] = {"nosmog": with_positions}
"""What makes the features of a recipe's students, where they are not the graph's own; its options are those of the
recipe's option `inputs`."""


EDGE_READERS = frozenset({"best", "curvature", "ddk", "ffg2m", "hgmd", "krd", "nosmog", "simmlp", "tined"})
"""The recipes that read the edges of the graph; all count every edge the same."""


def nested(method: str | Mapping[str, Any] | Callable[..., Any]) -> Iterator[str]:
    """Names of a recipe and of the recipes that it is put around, outermost first.

    >>> list(nested(dict(type="mixup", method=dict(type="glnn", lam=0.5))))
    ['mixup', 'glnn']
    """
    inner = method.get("type") if isinstance(method, Mapping) else method
    while isinstance(inner, partial):
        inner = inner.func
    yield getattr(inner, "__name__", type(inner).__name__) if callable(inner) else str(inner)
    if isinstance(method, Mapping) and "method" in method:
        yield from nested(method["method"])


def check_method(method: str | Mapping[str, Any] | Callable[..., Any]) -> None:
    """Raise where a method, one that it is put around, or a loss in it is wrong: before a teacher is trained for it.

    >>> check_method(dict(type="terms", distills=[dict(loss="kll")]))
    Traceback (most recent call last):
    KeyError: "no loss is called 'kll'; did you mean 'kl' or 'rkl' or 'lelp'?"
    """
    recipe, options = resolve("method", method, RECIPES)
    if "lam" in options:
        check_lam(recipe.__name__, options["lam"])
    if "distills" in options:
        if not isinstance(options["distills"], list | tuple):
            raise TypeError(f"method {recipe.__name__!r}: distills is a list of entries, got {options['distills']!r}")
        for entry in options["distills"]:
            check_entry(entry)
    if options.get("loss") is not None:
        check_entry({"loss": options["loss"]})
    if options.get("method") is not None:
        check_method(options["method"])


def asked(method: str | Mapping[str, Any] | Callable[..., Any]) -> set[str]:
    """All that a method asks of its teacher, see `TELLS`."""
    return {what for name in nested(method) for what in TELLS.get(name, ())}


def network_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> Callable[..., Any]:
    """The network that a method trains: that of the innermost recipe which has one of its own."""
    return next((NETWORKS[name] for name in reversed(list(nested(method))) if name in NETWORKS), MLP)


def inputs_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> Callable[[Setting, int], Inputs]:
    """What makes the features of a method's students from a setting and a seed, see `INPUTS`.

    >>> inputs_of(dict(type="nosmog", inputs=dict(lenght=16)))
    Traceback (most recent call last):
    TypeError: input 'nosmog' has no option 'lenght'; did you mean 'length'?
    """
    *_, name = nested(method)
    if name not in INPUTS:
        return own_features
    while isinstance(method, Mapping) and "method" in method:
        method = method["method"]
    options = method.get("inputs") if isinstance(method, Mapping) else None
    make, options = resolve("input", {"type": name, **(options or {})}, INPUTS)
    return partial(make, **options)


def own_features(setting: Setting, seed: int) -> Inputs:
    """The features of the graph, edges or not."""
    return Inputs(setting.seen.x, setting.whole.x, setting.whole.x)


__all__ = [
    "EDGE_READERS",
    "INPUTS",
    "NETWORKS",
    "OF_GRAPH_NETWORKS",
    "RECIPES",
    "TELLS",
    "adagmlp",
    "annotator",
    "asked",
    "best",
    "check_method",
    "curvature",
    "ddk",
    "dho",
    "diff_quant",
    "distill_weighted",
    "dual_head",
    "ffg2m",
    "glem",
    "glnn",
    "hard",
    "hgmd",
    "incremental",
    "inputs_of",
    "kd3",
    "krd",
    "lingugkd",
    "m2m",
    "mixup",
    "mtard",
    "nested",
    "network_of",
    "nosmog",
    "partition",
    "pruned",
    "quant_distill",
    "rad",
    "random_teacher",
    "rounded",
    "selfdistill",
    "simmlp",
    "supervised",
    "talking",
    "terms",
    "tfkd_self",
    "tgeo",
    "tined",
    "voting",
    "vqgraph",
    "weight_align",
]
