"""What the subcommands share that let a language model read a text graph: what they ask for, and how they open it."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser

with one_sentence():
    from graphkd.data import Graph, Split, load, split_of
    from graphkd.text import LanguageModel, Prompts
    from graphkd.text.prompts import INSTRUCTION


def parser(doc: str | None, command: str, *dtypes: str) -> Parser:
    """With the arguments for graph, prompts and model, in one of the `dtypes`."""
    made = Parser(doc, command)
    made.add_argument("graph", help="a name like cane_cora, or a table of nodes: .csv, .jsonl, .parquet")
    made.add_argument("--edges", help="the table of edges, where GRAPH is a table")
    made.add_argument("--empty", default="raise", choices=("raise", "keep"), help="nodes of a table without a text")
    made.add_argument("--split", choices=("cpf", "shares"), help="instead of the graph's own, or else cpf")
    made.add_argument("--model", required=True, help="folder, or name in the hub's cache")
    made.add_argument("--labels", help="what the classes are called, 'theory,agents,...'")
    made.add_argument(
        "--hops", type=whole(0), default=2, help="prompts a node: itself, and up to so many hops around it"
    )
    made.add_argument("--budget", type=whole(1), default=256, help="tokens in a prompt")
    made.add_argument("--neighbours", type=whole(1), default=4, help="at each distance")
    made.add_argument("--device", default="cpu", help="like cuda or cuda:1")
    made.add_argument("--dtype", default="float32", choices=dtypes)
    return made


def join() -> int:
    """The rank of this process, once it has joined those that torchrun started with it."""
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    return int(os.environ.get("RANK", 0))


def graph_of(args: argparse.Namespace) -> Graph:
    """The graph, by name or as a table.

    Raises:
        ValueError: a table comes without one of edges, or the other way round, or the labels are not as many as the
            classes.
    """
    table = bool(Path(args.graph).suffix) or Path(args.graph).is_file()
    if table and not args.edges:
        raise ValueError(f"{args.graph} is a table of nodes: name the table of edges, too, by --edges")
    if args.edges and not table:
        raise ValueError(f"{args.graph!r} is a graph by name and has its own edges: leave out --edges")
    own = dict(nodes=args.graph, edges=args.edges, empty=args.empty)
    rule = {"split": args.split} if args.split else {}
    graph = load(dict(type="texts", **own, **rule) if table else dict(type=args.graph, **rule))
    names = listed(args.labels)
    if names and len(names) != graph.num_classes:
        raise ValueError(f"--labels has {len(names)} names, there are {graph.num_classes} classes")
    return graph


def split_for(graph: Graph, seed: int) -> Split:
    """The graph's split, or one that is drawn.

    Raises:
        ValueError: it cannot be drawn; says how to give one.
    """
    try:
        return split_of(graph, seed)
    except ValueError as error:
        raise ValueError(f"{error}; pass --split shares, or write the column 'split' into the table") from error


def model_of(args: argparse.Namespace, **options: Any) -> LanguageModel:
    """The model, on a device of this process's own."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if args.device == "cuda" else args.device
    return LanguageModel.load(args.model, device, args.dtype, **options)


def prompts_of(args: argparse.Namespace, model: LanguageModel, seed: int = 0) -> Prompts:
    """How to ask this model."""
    asked = dict(hops=args.hops, budget=args.budget, neighbours=args.neighbours, seed=seed)
    return replace(INSTRUCTION if model.causal else Prompts(), **asked)


def listed(names: str | None) -> list[str]:
    """Names, 'theory,agents,...', one by one.

    Raises:
        ValueError: one of them is blank.
    """
    found = [name.strip() for name in names.split(",")] if names is not None else []
    if "" in found:
        raise ValueError(f"expected names with commas between them, 'theory,agents,...', got {names!r}")
    return found
