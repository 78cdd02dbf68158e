"""`graphkd embed`, killed at random times and called again: `python tests/graphkd/killed_embed.py --kills 10`.

Prints how many runs were killed, how many shards each left, and whether the cache in the end is that of a run without a
kill, byte for byte. Each run is a fork of one process that has the libraries imported already.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

SHARD = 2


def write_world(folder: Path, nodes: int) -> list[str]:
    """A graph of texts, an encoder with random weights, and the arguments of the tool."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: k for k, word in enumerate(["[PAD]", "[UNK]", "a", *(f"w{k}" for k in range(90))])}
    bare = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder / "m")
    torch.manual_seed(0)
    size = dict(vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(BertConfig(**size)).save_pretrained(folder / "m")
    draw = random.Random(0)
    rows = [
        {"id": k, "text": " ".join(f"w{draw.randrange(90)}" for _ in range(40)), "label": k % 2} for k in range(nodes)
    ]
    (folder / "n.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edges = [{"source": k, "target": (k + 1) % nodes} for k in range(nodes)]
    (folder / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in edges))
    options = ["--edges", str(folder / "e.jsonl"), "--model", str(folder / "m"), "--shard", str(SHARD)]
    return [str(folder / "n.jsonl"), *options, "--hops", "1", "--budget", "100", "--batch-tokens", "100"]


def run(arguments: list[str], said: Path) -> int:
    """The id of a process that runs the tool."""
    child = os.fork()
    if child:
        return child
    from graphkd.cli import embed as embed_text

    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        code = 1
        try:
            embed_text.main(arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def kill(folder: Path, kills: int, nodes: int, seed: int) -> dict[str, object]:
    """Kill the tool so often, let it end, and compare with a run that nobody killed."""
    from graphkd.cli import embed as embed_text

    arguments = write_world(folder, nodes)
    start = time.monotonic()
    embed_text.main([*arguments, "--out", str(folder / "whole")])  # here, so that forks find everything imported
    pause = (time.monotonic() - start) * SHARD / nodes
    draw, killed, left = random.Random(seed), 0, []
    out = folder / "killed"
    kept: dict[Path, int] = {}
    most = (
        nodes // SHARD // (kills + 3)
    )  # shards that a run may write before it is killed, so that work is left for all
    while killed < kills:
        child = run([*arguments, "--out", str(out)], folder / "said")
        target = (left or [0])[-1] + draw.randint(0, most)
        while len(list(out.glob("shard-*"))) < target:
            time.sleep(0.001)
        time.sleep(draw.random() * pause)
        os.kill(child, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break  # it was done before the signal came
        killed += 1
        left.append(len(list(out.glob("shard-*"))))
        kept |= {file: file.stat().st_mtime_ns for file in out.glob("shard-*/*") if file not in kept}
    last = run([*arguments, "--out", str(out)], folder / "said")
    ended = os.waitstatus_to_exitcode(os.waitpid(last, 0)[1])
    one, two = content(folder / "whole"), content(out)
    return {
        "killed": killed,
        "shards left by each": left,
        "of": nodes // SHARD,
        "last run ended with": ended,
        "same to the bit": one == two,
        "files": len(two),
        "written twice": sum(file.stat().st_mtime_ns != written for file, written in kept.items()),
        "other leftovers": sorted(each.name for each in out.iterdir() if not each.name.startswith("shard-")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import torch

    torch.set_num_threads(1)  # forks do not take threads along
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(kill(Path(scratch), args.kills, args.nodes, args.seed)))


if __name__ == "__main__":
    main()
