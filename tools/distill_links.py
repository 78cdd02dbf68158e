"""`graphkd links`, for who types `python tools/distill_links.py`."""

from graphdensekd import graphkd

if __name__ == "__main__":
    graphkd("links")
