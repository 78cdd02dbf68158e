"""Link prediction: split edges, train a graph network on them, and distill it into a student without a graph."""

from typing import Any

from graphkd.links.distillation import (
    LinkOutcome,
    LinkResult,
    distill_links,
    split_links,
    train_link_student,
    train_link_teacher,
)
from graphkd.links.heuristics import HEURISTICS, Heuristic
from graphkd.links.metrics import auc, hits, mrr
from graphkd.links.pairs import NonEdges, once
from graphkd.links.recipes import LINK_RECIPES
from graphkd.links.split import SPLITS, LinkSplit, prod, tran
from graphkd.links.student import LinkStudent
from kdlosses.moved import moved_name

__all__ = [
    "HEURISTICS",
    "LINK_RECIPES",
    "SPLITS",
    "Heuristic",
    "LinkOutcome",
    "LinkResult",
    "LinkSplit",
    "LinkStudent",
    "NonEdges",
    "auc",
    "distill_links",
    "hits",
    "mrr",
    "once",
    "prod",
    "split_links",
    "train_link_student",
    "train_link_teacher",
    "tran",
]

_MOVED = {"teach_links": "graphkd.links.train_link_teacher", "study_links": "graphkd.links.train_link_student"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
