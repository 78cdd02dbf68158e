"""`densekd train`, for who types `python tools/train.py`."""

from densekd.cli.train import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("train")
