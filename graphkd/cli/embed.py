"""Let a language model read a text graph, once, for `graphkd distill`.

    graphkd embed cane_cora --model FOLDER --out CACHE
    graphkd embed nodes.csv --edges edges.csv --model FOLDER --out CACHE

GRAPH is a name of `graphkd.data.load`, or the table of nodes of one's own texts, with `--edges` for the table of edges.
The model is an encoder or a causal model of transformers, by folder or by the name under which it lies in the hub's
cache; nothing is fetched. Before it starts, the tool says what it will take; after a kill the same call goes on where
it was. `--measure` prints seconds of the whole and of its bare forward passes instead, `--estimate` only the cost.
A causal model with `--explain TOKENS` also writes which of the labels fit a node, and why; what it wrote is read in
place of the texts, by an encoder, say, with `--explanations CACHE`.
With `torchrun --nproc-per-node 4 -m graphkd.cli embed ...` the processes share the nodes, each on a GPU of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.cli import _texts as texts
from kdlosses.cli.mistakes import one_sentence, place_to_write, whole

with one_sentence():
    from tqdm import tqdm

    from graphkd.data import make_setting
    from graphkd.text import embed, estimate, explanations, overhead
    from graphkd.training.cache import Cache


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    parser = texts.parser(__doc__, "graphkd embed", "float32", "bfloat16", "float16")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--explain", type=whole(0), default=0, metavar="TOKENS", help="let it write its reasons, too")
    parser.add_argument(
        "--explanations", type=Path, metavar="CACHE", help="read what another model wrote for --explain"
    )
    parser.add_argument("--pool", choices=("mean", "last", "first"), help="tokens that stand for a prompt")
    parser.add_argument("--batch-tokens", type=whole(1), default=8192, help="in a forward pass, padding included")
    parser.add_argument("--shard", type=whole(1), default=1024, help="nodes that are written at a time")
    parser.add_argument("--setting", default="tran", choices=("tran", "ind"), help="ind hides some nodes, see SEED")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the neighbours drawn, and of what ind hides")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--estimate", action="store_true", help="say what it takes, and stop")
    only.add_argument("--measure", action="store_true", help="compare with bare forward passes, and stop")
    args = parser.parse_args(arguments)
    place_to_write(args.out, new=False)
    rank = texts.join()
    graph = texts.graph_of(args)
    observed = None
    if args.setting == "ind":
        observed = np.zeros(len(graph), dtype=bool)
        observed[make_setting(graph, texts.split_for(graph, args.seed), "ind", args.seed).observed.numpy()] = True
    if args.explanations:
        written = explanations(Cache.load(args.explanations, graph.fingerprint()))
        graph = replace(graph, texts=tuple(written))
    model = texts.model_of(args, pool=args.pool)
    prompts = texts.prompts_of(args, model, args.seed)
    if args.measure:
        whole_time, bare = overhead(graph, model, prompts, batch_tokens=args.batch_tokens)
        print(f"{whole_time:.2f} s, bare forward passes {bare:.2f} s: {whole_time / bare:.3f} times as long")
        return
    job: dict[str, Any] = dict(
        labels=texts.listed(args.labels), observed=observed, explain=args.explain, batch_tokens=args.batch_tokens
    )
    if rank == 0:
        print(estimate(graph, model, args.out, prompts, **job), flush=True)
    if args.estimate:
        return
    with tqdm(total=len(graph), unit="node", disable=rank > 0) as bar:
        embed(graph, model, args.out, prompts, shard=args.shard, progress=bar.update, **job)
