"""Losses for graphs: on edges, or on pairs of nodes; importing this module registers them beside `kdlosses`' own."""

from graphkd.edges import neighbour_targets
from graphkd.losses.caw_w2 import caw_w2
from graphkd.losses.dirichlet import dirichlet_energy
from graphkd.losses.ffg2m_high import ffg2m_high
from graphkd.losses.ffg2m_low import ffg2m_low
from graphkd.losses.layer_infonce import LayerInfoNCE
from graphkd.losses.llp_dist import llp_dist
from graphkd.losses.llp_rank import llp_rank

__all__ = [
    "LayerInfoNCE",
    "caw_w2",
    "dirichlet_energy",
    "ffg2m_high",
    "ffg2m_low",
    "llp_dist",
    "llp_rank",
    "neighbour_targets",
]
