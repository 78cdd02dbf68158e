"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

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

__all__ = [
    "RECIPES",
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
