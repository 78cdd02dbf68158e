"""`densekd test`, for who types `python tools/test.py`."""

from densekd.cli.test import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("test")
