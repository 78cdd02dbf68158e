"""Losses for maps, which nodes have no part in; importing this module registers them beside `kdlosses`' own."""

from densekd.losses.acam import ACAM
from densekd.losses.boundary import class_edges
from densekd.losses.bpkd_body import bpkd_body
from densekd.losses.bpkd_edge import bpkd_edge
from densekd.losses.bsd_region import bsd_region
from densekd.losses.cell_similarity import cell_similarity
from densekd.losses.cirkd_memory import CIRKDMemory
from densekd.losses.cirkd_pairs import cirkd_pairs
from densekd.losses.gap_l1 import gap_l1
from densekd.losses.hfd import HFD
from densekd.losses.instance_text import InstanceText
from densekd.losses.maskd import MasKD
from densekd.losses.mgd import MGD
from densekd.losses.omniscene import Omniscene
from densekd.losses.pointdistiller import PointDistiller
from densekd.losses.skd_holistic import SKDHolistic
from densekd.losses.skd_pairs import skd_pairs
from densekd.losses.unidistill_feature import unidistill_feature
from densekd.losses.unidistill_relation import unidistill_relation
from densekd.losses.unidistill_response import unidistill_heatmap, unidistill_regression

__all__ = [
    "ACAM",
    "HFD",
    "MGD",
    "CIRKDMemory",
    "InstanceText",
    "MasKD",
    "Omniscene",
    "PointDistiller",
    "SKDHolistic",
    "bpkd_body",
    "bpkd_edge",
    "bsd_region",
    "cell_similarity",
    "cirkd_pairs",
    "class_edges",
    "gap_l1",
    "skd_pairs",
    "unidistill_feature",
    "unidistill_heatmap",
    "unidistill_regression",
    "unidistill_relation",
]
