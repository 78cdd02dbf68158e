"""`densekd prune`, for who types `python tools/prune.py`."""

from densekd.cli.prune import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("prune")
