"""`python -m densekd.cli` is the command `densekd`."""

from graphdensekd import densekd

if __name__ == "__main__":
    densekd()
