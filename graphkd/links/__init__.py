"""Links instead of labels: edges are split, told by a graph network, and learnt by a student that needs no graph."""

from graphkd.links.distillation import LinkOutcome, LinkResult, distill_links, split_links, study_links, teach_links
from graphkd.links.metrics import auc, hits
from graphkd.links.pairs import NonEdges, once
from graphkd.links.recipes import LINK_RECIPES
from graphkd.links.split import SPLITS, LinkSplit, prod, tran
from graphkd.links.student import LinkStudent

__all__ = [
    "LINK_RECIPES",
    "SPLITS",
    "LinkOutcome",
    "LinkResult",
    "LinkSplit",
    "LinkStudent",
    "NonEdges",
    "auc",
    "distill_links",
    "hits",
    "once",
    "prod",
    "split_links",
    "study_links",
    "teach_links",
    "tran",
]
