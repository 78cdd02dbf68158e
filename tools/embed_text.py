"""`graphkd embed`, for who types `python tools/embed_text.py`."""

from graphdensekd import graphkd

if __name__ == "__main__":
    graphkd("embed")
