"""Graphs, how they are split, and what may be seen of them."""

from graphkd.data.cpf import cpf_split, prepare, split_of, undirected
from graphkd.data.digits import digits
from graphkd.data.graph import Graph
from graphkd.data.part import part
from graphkd.data.readers import NAMES, load
from graphkd.data.setting import Setting, observe
from graphkd.data.split import Split

__all__ = [
    "NAMES",
    "Graph",
    "Setting",
    "Split",
    "cpf_split",
    "digits",
    "load",
    "observe",
    "part",
    "prepare",
    "split_of",
    "undirected",
]
