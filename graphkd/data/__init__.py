"""Graphs, splits, and settings that define which part of a graph is visible."""

from typing import Any

from graphkd.data.cpf import cpf_split, one_way, prepare, share_split, sorted_undirected, split_of, undirected
from graphkd.data.digits import digits
from graphkd.data.graph import Graph
from graphkd.data.hubs import hubs
from graphkd.data.kinds import as_graph, describe
from graphkd.data.readers import NAMES, load
from graphkd.data.restrict import restrict
from graphkd.data.setting import Setting, make_setting
from graphkd.data.split import Split, as_split
from graphkd.data.text_files import read_texts
from graphkd.data.texts import of_tag, read_cane, text_graph
from kdlosses.moved import moved_name

__all__ = [
    "NAMES",
    "Graph",
    "Setting",
    "Split",
    "as_graph",
    "as_split",
    "cpf_split",
    "describe",
    "digits",
    "hubs",
    "load",
    "make_setting",
    "of_tag",
    "one_way",
    "prepare",
    "read_cane",
    "read_texts",
    "restrict",
    "share_split",
    "sorted_undirected",
    "split_of",
    "text_graph",
    "undirected",
]

_MOVED = {"observe": "graphkd.data.make_setting", "part": "graphkd.data.restrict"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
