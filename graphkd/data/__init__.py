"""Graphs, how they are split, and what may be seen of them."""

from graphkd.data.cpf import cpf_split, one_way, prepare, share_split, split_of, undirected
from graphkd.data.digits import digits
from graphkd.data.graph import Graph
from graphkd.data.hubs import hubs
from graphkd.data.part import part
from graphkd.data.readers import NAMES, load
from graphkd.data.setting import Setting, observe
from graphkd.data.split import Split, as_split
from graphkd.data.text_files import read_texts
from graphkd.data.texts import of_tag, read_cane, text_graph

__all__ = [
    "NAMES",
    "Graph",
    "Setting",
    "Split",
    "as_split",
    "cpf_split",
    "digits",
    "hubs",
    "load",
    "observe",
    "of_tag",
    "one_way",
    "part",
    "prepare",
    "read_cane",
    "read_texts",
    "share_split",
    "split_of",
    "text_graph",
    "undirected",
]
