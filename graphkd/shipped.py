"""The graph configs of this package by name: `graphkd::default/cora.py`, `graphkd::links/llp/cora.py`."""

from kdlosses.shipped import Shipped

CONFIGS = Shipped(
    "graphkd", ("graph", "links", "tasks", "federated", "unlearning", "condensed", "recommendation", "scenes")
)
"""`graph/` may be left out."""
