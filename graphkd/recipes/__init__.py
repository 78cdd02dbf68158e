"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from graphkd.recipes.ffg2m import ffg2m
from graphkd.recipes.glnn import glnn
from graphkd.recipes.supervised import supervised
from graphkd.recipes.terms import terms

RECIPES = {recipe.__name__: recipe for recipe in (ffg2m, glnn, supervised, terms)}

__all__ = ["RECIPES", "ffg2m", "glnn", "supervised", "terms"]
