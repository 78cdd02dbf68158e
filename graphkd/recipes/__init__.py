"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from graphkd.recipes.ddk import ddk
from graphkd.recipes.ffg2m import ffg2m
from graphkd.recipes.glnn import glnn
from graphkd.recipes.hard import hard
from graphkd.recipes.kd3 import kd3
from graphkd.recipes.mixup import mixup
from graphkd.recipes.pruned import pruned
from graphkd.recipes.rad import rad
from graphkd.recipes.supervised import supervised
from graphkd.recipes.talking import talking
from graphkd.recipes.terms import terms
from graphkd.recipes.tgeo import tgeo

RECIPES = {
    recipe.__name__: recipe
    for recipe in (ddk, ffg2m, glnn, hard, kd3, mixup, pruned, rad, supervised, talking, terms, tgeo)
}

__all__ = [
    "RECIPES",
    "ddk",
    "ffg2m",
    "glnn",
    "hard",
    "kd3",
    "mixup",
    "pruned",
    "rad",
    "supervised",
    "talking",
    "terms",
    "tgeo",
]
