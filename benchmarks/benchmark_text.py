"""What it takes to ask a language model, and its student: `python benchmarks/benchmark.py text --model FOLDER`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Ratio

from graphkd.data import load
from graphkd.networks.mlp import MLP
from graphkd.teachers.hopwise import hopwise
from graphkd.text import LanguageModel, Prompts, overhead
from graphkd.text.embed import by_length
from graphkd.text.prompts import Asker
from graphkd.training.latency import BATCH, latency, student_latencies, teacher_latencies

BATCH_TOKENS = 8192


def measure(model: str, nodes: int = 256, repeats: int = 3, budget: int = 160) -> Iterator[Ratio]:
    """On CANE-Cora: `embed` against bare forward passes, and the students of `lingugkd` against the model that taught.

    The model reads one prompt a node, the one of both hops, by the protocol of `graphkd.training.latency` but for fewer
    repeats; looking up the neighbours, tokens and forward pass count. Speed does not depend on weights:
    students are untrained.
    """
    graph, teacher = load("cane_cora"), LanguageModel.load(model)
    prompts = Prompts(budget=budget)
    whole, bare = overhead(graph, teacher, prompts, nodes=nodes, batch_tokens=BATCH_TOKENS, repeats=repeats)
    yield Ratio("embed / bare forward passes", whole / bare, 1.1, f"{whole:.1f} s, {bare:.1f} s, {nodes} nodes")
    asker = Asker(graph, teacher, prompts)
    draw = torch.Generator().manual_seed(0)

    def read(count: int) -> None:
        asked = [asker.ask(node)[-1] for node in torch.randint(len(graph), (count,), generator=draw).tolist()]
        for batch in by_length(asked, BATCH_TOKENS):
            teacher.read(teacher.padded([asked[place] for place in batch]))

    model_ms = {"one_node": latency(lambda: read(1)), "batch": latency(lambda: read(BATCH), 1, repeats)}
    width, classes = graph.x.shape[1], graph.num_classes
    gcn = teacher_latencies(hopwise(width, classes).eval(), graph.x, graph.edge_index)
    mlp = student_latencies(MLP(width, (256,), classes).eval(), graph.x)
    for name, key in (("one node", "one_node"), (f"{BATCH} nodes", "batch")):
        for student, times in (("GCN", gcn), ("MLP", mlp)):
            detail = f"{times[key]:.3g} ms, {model_ms[key]:.3g} ms"
            yield Ratio(f"{student} / language model, {name}", times[key] / model_ms[key], 1.0, detail)
