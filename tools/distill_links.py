"""`graphkd links`, for who types `python tools/distill_links.py`."""

from graphdensekd import graphkd
from graphkd.cli.links import main as main

if __name__ == "__main__":
    graphkd("links")
