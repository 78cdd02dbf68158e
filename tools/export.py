"""`densekd export`, for who types `python tools/export.py`."""

from densekd.cli.export import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("export")
