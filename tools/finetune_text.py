"""`graphkd finetune`, for who types `python tools/finetune_text.py`."""

from graphdensekd import graphkd
from graphkd.cli.finetune import main as main

if __name__ == "__main__":
    graphkd("finetune")
