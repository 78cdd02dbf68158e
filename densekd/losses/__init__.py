"""Losses for maps, which nodes have no part in; importing this module registers them beside `kdlosses`' own."""

from densekd.losses.boundary import class_edges
from densekd.losses.bpkd_body import bpkd_body
from densekd.losses.bpkd_edge import bpkd_edge
from densekd.losses.mgd import MGD

__all__ = ["MGD", "bpkd_body", "bpkd_edge", "class_edges"]
