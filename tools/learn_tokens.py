"""`densekd tokens`, for who types `python tools/learn_tokens.py`."""

from densekd.cli.tokens import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("tokens")
