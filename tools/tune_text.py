"""`graphkd tune`, for who types `python tools/tune_text.py`."""

from graphdensekd import graphkd
from graphkd.cli.tune import main as main

if __name__ == "__main__":
    graphkd("tune")
