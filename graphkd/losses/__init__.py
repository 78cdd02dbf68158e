"""Losses that need the edges of a graph; importing this module registers them beside those of `kdlosses`."""

from graphkd.edges import neighbour_targets
from graphkd.losses.ffg2m_high import ffg2m_high
from graphkd.losses.ffg2m_low import ffg2m_low

__all__ = ["ffg2m_high", "ffg2m_low", "neighbour_targets"]
