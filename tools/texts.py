"""What the tools share that let a language model read a text graph: what they ask for, and how they open it."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from graphkd.data import Graph, load
from graphkd.text import LanguageModel, Prompts
from graphkd.text.prompts import INSTRUCTION


def parser(description: str | None, *dtypes: str) -> argparse.ArgumentParser:
    """With the arguments for graph, prompts and model, in one of the `dtypes`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("graph", help="a name like cane_cora, or a table of nodes: .csv, .jsonl, .parquet")
    made.add_argument("--edges", help="the table of edges, where GRAPH is a table")
    made.add_argument("--empty", default="raise", choices=("raise", "keep"), help="nodes of a table without a text")
    made.add_argument("--model", required=True, help="folder, or name in the hub's cache")
    made.add_argument("--labels", help="what the classes are called, 'theory,agents,...'")
    made.add_argument("--hops", type=int, default=2, help="prompts a node: itself, and up to so many hops around it")
    made.add_argument("--budget", type=int, default=256, help="tokens in a prompt")
    made.add_argument("--neighbours", type=int, default=4, help="at each distance")
    made.add_argument("--device", default="cpu", help="like cuda or cuda:1")
    made.add_argument("--dtype", default="float32", choices=dtypes)
    return made


def join() -> int:
    """The rank of this process, once it has joined those that torchrun started with it."""
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    return int(os.environ.get("RANK", 0))


def graph_of(args: argparse.Namespace, **rule: Any) -> Graph:
    """The graph, by name or as a table; a `rule` is one of its loader's options."""
    if not Path(args.graph).suffix:
        return load(dict(type=args.graph, **rule))
    return load(dict(type="texts", nodes=args.graph, edges=args.edges, empty=args.empty, **rule))


def model_of(args: argparse.Namespace, **options: Any) -> LanguageModel:
    """The model, on a device of this process's own."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if args.device == "cuda" else args.device
    return LanguageModel.load(args.model, device, args.dtype, **options)


def prompts_of(args: argparse.Namespace, model: LanguageModel, seed: int = 0) -> Prompts:
    """How to ask this model."""
    asked = dict(hops=args.hops, budget=args.budget, neighbours=args.neighbours, seed=seed)
    return replace(INSTRUCTION if model.causal else Prompts(), **asked)


def listed(names: str | None) -> list[str]:
    """Names, 'theory,agents,...', one by one."""
    return [name.strip() for name in names.split(",")] if names else []
