"""`densekd compare`, for who types `python tools/compare.py`."""

from densekd.cli.compare import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("compare")
