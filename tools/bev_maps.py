"""`densekd maps`, for who types `python tools/bev_maps.py`."""

from densekd.cli.maps import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("maps")
