"""`densekd points`, for who types `python tools/point_disco.py`."""

from graphdensekd import densekd

if __name__ == "__main__":
    densekd("points")
