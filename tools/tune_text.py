"""Tune a language model with LoRA on a graph's training nodes: `python tools/tune_text.py cane_cora --model A --out B`.

GRAPH and the ways to ask are those of tools/embed_text.py, which then reads the graph with the model in the folder B.
The training nodes are those of one split, so that each seed has a tuned model of its own. A causal model needs
`--labels`, what the classes are called. With `--align CACHE` no label is read: an encoder, or with `--layers` the first
layers of one, learns the vectors that a larger one left there, so that its own can be compared with them.
`torchrun --nproc-per-node 4 tools/tune_text.py ...` shares the batches.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from graphkd.cache import Cache
from graphkd.data import load, split_of
from graphkd.text import LanguageModel, Prompts, align, tune
from graphkd.text.prompts import INSTRUCTION


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", help="a name like cane_cora, or a table of nodes: .csv, .jsonl, .parquet")
    parser.add_argument("--edges", help="the table of edges, where GRAPH is a table")
    parser.add_argument("--split", choices=("cpf", "shares"), help="instead of the graph's own, or else cpf")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the training")
    parser.add_argument("--model", required=True, help="folder, or name in the hub's cache")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tuned model")
    parser.add_argument("--labels", help="what the classes are called, 'theory,agents,...'")
    parser.add_argument(
        "--align", type=Path, metavar="CACHE", help="of tools/embed_text.py: learn its vectors, no labels"
    )
    parser.add_argument("--layers", type=int, help="so many layers of the model, from the first, make a smaller one")
    parser.add_argument("--hops", type=int, default=2)
    parser.add_argument("--budget", type=int, default=256, help="tokens in a prompt")
    parser.add_argument("--neighbours", type=int, default=4, help="at each distance")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args(arguments)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    rule = {"split": args.split} if args.split else {}
    try:
        table = dict(type="texts", nodes=args.graph, edges=args.edges)
        graph = load({**(table if Path(args.graph).suffix else dict(type=args.graph)), **rule})
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if args.device == "cuda" else args.device
        model = LanguageModel.load(args.model, device, args.dtype, layers=args.layers)
        asked = dict(hops=args.hops, budget=args.budget, neighbours=args.neighbours)
        prompts = replace(INSTRUCTION if model.causal else Prompts(), **asked)
        schedule = dict(lr=args.lr, epochs=args.epochs, batch_size=args.batch_size, seed=args.seed)
        if args.align:
            history = align(model, graph, Cache.load(args.align), args.out, prompts, **schedule)
        else:
            labels = [label.strip() for label in args.labels.split(",")] if args.labels else []
            train = split_of(graph, args.seed).train
            history = tune(model, graph, train, args.out, prompts, labels=labels, rank=args.rank, **schedule)
    except (FileNotFoundError, FileExistsError, KeyError, ValueError) as error:
        raise SystemExit(str(error.args[0] if error.args else error)) from error
    print(f"loss of each epoch: {', '.join(f'{loss:.3f}' for loss in history.losses)}; {sum(history.seconds):.0f} s")


if __name__ == "__main__":
    main()
