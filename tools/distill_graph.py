"""`graphkd distill`, for who types `python tools/distill_graph.py`."""

from graphdensekd import graphkd

if __name__ == "__main__":
    graphkd("distill")
