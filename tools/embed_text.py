"""`graphkd embed`, for who types `python tools/embed_text.py`."""

from graphdensekd import graphkd
from graphkd.cli.embed import main as main

if __name__ == "__main__":
    graphkd("embed")
