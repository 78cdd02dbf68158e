"""`densekd points`, for who types `python tools/point_disco.py`."""

from densekd.cli.points import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("points")
