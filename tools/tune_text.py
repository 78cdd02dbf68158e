"""`graphkd tune`, for who types `python tools/tune_text.py`."""

from graphdensekd import graphkd

if __name__ == "__main__":
    graphkd("tune")
