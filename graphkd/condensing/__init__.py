"""Condense a set of graphs, and train networks on what is left: distillation of data, not of a network."""

from graphkd.condensing.condensed import Condensed
from graphkd.condensing.learning import TrainedOn, train_condensed
from graphkd.condensing.methods import CONDENSERS, condense
from graphkd.condensing.trees import tree_codes

__all__ = ["CONDENSERS", "Condensed", "TrainedOn", "condense", "train_condensed", "tree_codes"]
