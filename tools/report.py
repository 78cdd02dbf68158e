"""`graphkd report` and `densekd report`, which are one, for who types `python tools/report.py`."""

from densekd.cli.report import main as main
from graphdensekd import densekd

if __name__ == "__main__":
    densekd("report")
