"""`python -m graphkd.cli` is the command `graphkd`."""

from graphdensekd import graphkd

if __name__ == "__main__":
    graphkd()
