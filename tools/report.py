"""`graphkd report` and `densekd report`, which are one, for who types `python tools/report.py`."""

from graphdensekd import densekd

if __name__ == "__main__":
    densekd("report")
