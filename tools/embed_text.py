"""Let a language model read a text graph, once: `python tools/embed_text.py cane_cora --model FOLDER --out CACHE`.

GRAPH is a name of `graphkd.data.load`, or the table of nodes of one's own texts, with `--edges` for the table of edges.
The model is an encoder or a causal model of transformers, by folder or by the name under which it lies in the hub's
cache; nothing is fetched. Before it starts, the tool says what it will take; after a kill the same call goes on where
it was. `--measure` prints seconds of the whole and of its bare forward passes instead, `--estimate` only the cost.
A causal model with `--explain TOKENS` also writes which of the labels fit a node, and why; what it wrote is read in
place of the texts, by an encoder, say, with `--explanations CACHE`.
With `torchrun --nproc-per-node 4 tools/embed_text.py ...` the processes share the nodes, each on a GPU of its own.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from graphkd.cache import Cache
from graphkd.data import load, observe, read_texts, split_of
from graphkd.text import LanguageModel, Prompts, embed, estimate, explanations, overhead
from graphkd.text.prompts import INSTRUCTION


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", help="a name like cane_cora, or a table of nodes: .csv, .jsonl, .parquet")
    parser.add_argument("--edges", help="the table of edges, where GRAPH is a table")
    parser.add_argument("--empty", default="raise", choices=("raise", "keep"), help="nodes of a table without a text")
    parser.add_argument("--model", required=True, help="folder, or name in the hub's cache")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--hops", type=int, default=2, help="prompts a node: itself, and up to so many hops around it")
    parser.add_argument("--budget", type=int, default=256, help="tokens in a prompt")
    parser.add_argument("--neighbours", type=int, default=4, help="at each distance")
    parser.add_argument("--labels", help="what the classes are called, 'theory,agents,...': the model scores them")
    parser.add_argument("--explain", type=int, default=0, metavar="TOKENS", help="let it write its reasons, too")
    parser.add_argument(
        "--explanations", type=Path, metavar="CACHE", help="read what another model wrote for --explain"
    )
    parser.add_argument("--pool", choices=("mean", "last", "first"), help="tokens that stand for a prompt")
    parser.add_argument("--device", default="cpu", help="like cuda or cuda:1")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--batch-tokens", type=int, default=8192, help="in a forward pass, padding included")
    parser.add_argument("--shard", type=int, default=1024, help="nodes that are written at a time")
    parser.add_argument("--setting", default="tran", choices=("tran", "ind"), help="ind hides some nodes, see SEED")
    parser.add_argument("--seed", type=int, default=0, help="of the neighbours drawn, and of what ind hides")
    parser.add_argument("--estimate", action="store_true", help="say what it takes, and stop")
    parser.add_argument("--measure", action="store_true", help="compare with bare forward passes, and stop")
    args = parser.parse_args(arguments)
    rank = int(os.environ.get("RANK", 0))
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    try:
        graph = read_texts(args.graph, args.edges, empty=args.empty) if Path(args.graph).suffix else load(args.graph)
        if args.explanations:
            written = explanations(Cache.load(args.explanations, graph.fingerprint()))
            graph = replace(graph, texts=tuple(written))
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if args.device == "cuda" else args.device
        model = LanguageModel.load(args.model, device, args.dtype, args.pool)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(str(error.args[0])) from error
    asked = dict(hops=args.hops, budget=args.budget, neighbours=args.neighbours, seed=args.seed)
    prompts = replace(INSTRUCTION if model.causal else Prompts(), **asked)
    labels = [label.strip() for label in args.labels.split(",")] if args.labels else []
    observed = None
    if args.setting == "ind":
        observed = np.zeros(len(graph), dtype=bool)
        observed[observe(graph, split_of(graph, args.seed), "ind", args.seed).observed.numpy()] = True
    try:
        if args.measure:
            whole, bare = overhead(graph, model, prompts, batch_tokens=args.batch_tokens)
            print(f"{whole:.2f} s, bare forward passes {bare:.2f} s: {whole / bare:.3f} times as long")
            return
        job: dict[str, Any] = dict(
            labels=labels, observed=observed, explain=args.explain, batch_tokens=args.batch_tokens
        )
        if rank == 0:
            print(estimate(graph, model, args.out, prompts, **job), flush=True)
        if args.estimate:
            return
        with tqdm(total=len(graph), unit="node", disable=rank > 0) as bar:
            embed(graph, model, args.out, prompts, shard=args.shard, progress=bar.update, **job)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
