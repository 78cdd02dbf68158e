"""`densekd inspect`, for who types `python tools/inspect_model.py`."""

from densekd.cli.inspect import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("inspect")
