"""`graphkd distill`, for who types `python tools/distill_graph.py`."""

from graphdensekd import graphkd
from graphkd.cli.distill import main as main

if __name__ == "__main__":
    graphkd("distill")
