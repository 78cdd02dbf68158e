"""Embed every node by a language model, hop by hop, and write a teacher cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.graph import Graph
from graphkd.text.model import LanguageModel
from graphkd.text.prompts import EXPLANATION, Asker, Prompts, check_counts
from graphkd.training.cache import Cache, shards_in
from graphkd.training.parallel import processes

_SAMPLE = 256  # nodes that an estimate looks at
_SHARP = 0.05  # temperature of an encoder's scores of labels
_BYTES = 8  # kept of an explanation, for each token


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of embedding a graph.

    Attributes:
        prompts: how many are left to be read, at most.
        tokens: in them, estimated from a sample of nodes.
        flops: 2 for each token and parameter but those of the embeddings, without what attention costs beside.
        seconds: at the speed of a batch that was read for it.
        bytes: of the vectors on disk.
    """

    prompts: int
    tokens: int
    flops: float
    seconds: float
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.prompts:,} prompts, {self.tokens:,} tokens, {self.flops / 1e12:,.1f} TFLOP, "
            f"{self.bytes / 1e6:,.1f} MB on disk, about {self.seconds:,.0f} s"
        )


def embed(
    graph: Graph,
    model: LanguageModel,
    path: str | Path,
    prompts: Prompts | None = None,
    *,
    labels: Sequence[str] = (),
    observed: np.ndarray | None = None,
    explain: int = 0,
    shard: int = 1024,
    batch_tokens: int = 8192,
    progress: Callable[[int], object] = lambda nodes: None,
) -> Cache:
    """Embed every node, hop by hop, into a cache whose `hidden[k]` holds the vectors of hop k.

    The vectors are float16. With `labels`, the logits of the cache are what the model thinks of these words for the
    prompt of the last hop: of a causal model their log-probabilities as whole answers, of an encoder the cosine of both
    vectors over 0.05, a temperature of ours; without, they have no column. Shards are written
    atomically; a restarted run skips finished shards. Several processes, see `graphkd.training.parallel`, take turns.

    Args:
        graph: with texts.
        model: see `LanguageModel`.
        path: folder of the cache.
        prompts: prompt settings.
        labels: what the classes are called.
        observed: mask `(N,)` of the nodes that may be looked at, for a setting that hides some; their rows are NaN.
        explain: let a causal model also write, in so many tokens at most, which labels fit a node by its own text and
            why: read them by `explanations`. The prompt is `graphkd.text.prompts.EXPLANATION`, of the same budget.
        shard: nodes in a shard.
        batch_tokens: in a forward pass, padding included. Prompts are batched by their length.
        progress: called with the number of nodes done.

    Raises:
        ValueError: what is in the folder is of another model, other prompts or texts, or another graph; says which.
        FloatingPointError: a vector is not finite or too large for float16.
        OSError: a shard could not be written; those before it are kept, and the same call goes on behind them.
    """
    check_counts(shard=shard, batch_tokens=batch_tokens)
    job = _Job(graph, model, prompts or Prompts(), labels, observed, explain)
    path = Path(path)
    job.check(path)
    rank, size = processes()
    parts = _missing(path, len(graph), shard)
    progress(len(graph) - sum(stop - start for start, stop in parts))
    if size > 1:
        torch.distributed.barrier()  # no process writes before all have looked
    for place, (start, stop) in enumerate(parts):
        if place % size == rank:
            job.read(start, stop, batch_tokens).save_shard(path, start, len(graph))
        progress(stop - start)
    if size > 1:
        torch.distributed.barrier()
    if rank == 0:
        for left in path.glob(".shard-*"):  # of those who were killed right after they had written a shard
            shutil.rmtree(left, ignore_errors=True)
    return Cache.load(path, graph.fingerprint())


def estimate(
    graph: Graph,
    model: LanguageModel,
    path: str | Path,
    prompts: Prompts | None = None,
    *,
    labels: Sequence[str] = (),
    observed: np.ndarray | None = None,
    explain: int = 0,
    batch_tokens: int = 8192,
) -> Estimate:
    """Estimate the cost of `embed` for what is not cached yet, from one batch after a warm-up."""
    job = _Job(graph, model, prompts or Prompts(), labels, observed, explain)
    job.check(Path(path))
    left = len(graph) - sum(meta["rows"] for meta in shards_in(Path(path)))
    nodes = np.random.default_rng(0).permutation(len(graph))[:_SAMPLE]
    asked = [prompt for node in nodes.tolist() for prompt in job.asker.ask(node)]
    mean = statistics.fmean(map(len, asked))
    hops = job.prompts.hops + 1
    batches = list(by_length(asked, batch_tokens))
    middle = [asked[place] for place in batches[len(batches) // 2]]
    model.read(model.padded(middle), job.answers)
    _ready(model)
    start = time.perf_counter()
    model.read(model.padded(middle), job.answers)
    _ready(model)
    speed = (time.perf_counter() - start) / sum(map(len, middle))
    tokens, seconds = round(mean * hops * left), speed * round(mean * hops * left)
    if explain:
        asked = sorted((job.reasons.ask(node)[0] for node in nodes.tolist()), key=len)
        some = asked[len(asked) // 2 :][: max(1, batch_tokens // (len(asked[-1]) + explain))]
        start = time.perf_counter()
        model.write(model.padded(some), explain)
        _ready(model)
        seconds += (time.perf_counter() - start) / len(some) * left
        tokens += round((statistics.fmean(map(len, asked)) + explain) * left)
    return Estimate(hops * left, tokens, 2.0 * model.multiplied * tokens, seconds, 2 * hops * left * model.width)


def overhead(
    graph: Graph,
    model: LanguageModel,
    prompts: Prompts | None = None,
    *,
    nodes: int = 256,
    batch_tokens: int = 8192,
    repeats: int = 3,
) -> tuple[float, float]:
    """Seconds for the first nodes by `embed`, from prompts to files, and by the forward passes of its batches alone.

    The least of several turns, one after the other: other work on the machine only ever adds.
    """
    job = _Job(graph, model, prompts or Prompts(), (), None)
    stop = min(nodes, len(graph))
    asked = [prompt for node in range(stop) for prompt in job.asker.ask(node)]
    unique, _ = _unique(asked)
    batches = [model.padded([unique[place] for place in batch]) for batch in by_length(unique, batch_tokens)]
    whole, bare = [], []
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            job.read(0, stop, batch_tokens).save_shard(scratch, 0, len(graph))
            whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in batches:
                model.hidden(batch)
        _ready(model)
        bare.append(time.perf_counter() - start)
    return min(whole[1:]), min(bare[1:])


def explanations(cache: Cache) -> list[str]:
    """The explanations that a language model wrote for each node, from a cache of `embed` with `explain`.

    Raises:
        ValueError: there is nothing of the kind in the cache.
    """
    if "explanation" not in cache.more:
        raise ValueError("the cache holds no explanations: write it with graphkd.text.embed(..., explain=TOKENS)")
    return [text.decode("utf-8", errors="ignore") for text in np.asarray(cache.more["explanation"]).tolist()]


class _Job:
    """Embeds one graph by one model with one kind of prompt."""

    def __init__(
        self,
        graph: Graph,
        model: LanguageModel,
        prompts: Prompts,
        labels: Sequence[str],
        observed: np.ndarray | None,
        explain: int = 0,
    ) -> None:
        if labels and len(labels) != graph.num_classes:
            raise ValueError(f"there are {len(labels)} labels for {graph.num_classes} classes")
        if observed is not None:
            observed = np.asarray(observed)
            if observed.dtype != np.bool_ or observed.shape != (len(graph),):
                raise ValueError(
                    f"observed is a mask of bool, ({len(graph)},), got {observed.dtype} {observed.shape}; of node "
                    "numbers make one: mask[nodes] = True"
                )
        self.graph, self.model, self.prompts = graph, model, prompts
        self.labels = list(labels)
        self.answers = model.answers(labels) if labels and model.causal else []
        self.names = model.names(labels).cpu().numpy() if labels and not model.causal else None
        self.asker = Asker(graph, model, prompts, observed, spare=max(map(len, self.answers), default=0))
        self.explain = int(explain)
        check_counts(0, explain=explain)
        if explain:
            if not model.causal or not labels:
                raise ValueError("explanations are written by a causal language model, about labels in words")
            before = EXPLANATION.before.format(labels=", ".join(labels))
            wanted = replace(EXPLANATION, budget=prompts.budget, before=before)
            self.reasons = Asker(graph, model, wanted, observed, spare=explain)
        self.observed = np.ones(len(graph), dtype=bool) if observed is None else observed
        self.fingerprint = graph.fingerprint()
        texts = hashlib.blake2b("\0".join(graph.texts or ()).encode(errors="surrogatepass"), digest_size=16).hexdigest()
        self.settings: dict[str, Any] = {
            "teacher": {
                "type": "language_model",
                "weights": model.mark,
                "dtype": str(model.network.dtype).rpartition(".")[2],
                "pool": model.pool,
                "prompts": prompts.settings(),
                "labels": self.labels,
                "texts": texts,
                "observed": hashlib.blake2b(self.observed.tobytes(), digest_size=16).hexdigest(),
                **({"explain": self.explain} if explain else {}),
                **({"prompt": model.prompt} if model.prompt else {}),
                **({"lower": True} if model.lower else {}),
            }
        }

    def check(self, path: Path) -> None:
        """Raise ValueError if what is in the folder is of another job."""
        mine = json.loads(json.dumps(self.settings))["teacher"]
        for meta in shards_in(path):
            if meta["fingerprint"] != self.fingerprint:
                raise ValueError(f"the cache in {path} is of another graph; choose another folder, or remove it")
            theirs = meta["settings"].get("teacher", {})
            for key in {**mine, **theirs}:
                if theirs.get(key) != mine.get(key):
                    what = {"weights": "another language model", "texts": "other texts"}.get(key, f"another {key}")
                    raise ValueError(
                        f"the cache in {path} is of {what}: {theirs.get(key)!r} there, {mine.get(key)!r} here; choose "
                        "another folder, or remove it"
                    )

    def read(self, start: int, stop: int, batch_tokens: int) -> Cache:
        """The cache of a range of nodes."""
        nodes = np.flatnonzero(self.observed[start:stop])
        hops, width, rows = self.prompts.hops + 1, self.model.width, stop - start
        vectors = np.full((rows, hops, width), np.nan, dtype=np.float16)
        logits = np.full((rows, len(self.labels)), np.nan, dtype=np.float32)
        asked = [self.asker.ask(start + node) for node in nodes.tolist()]
        last = hops - 1 if self.answers else hops  # the prompts that are scored are read apart from the others
        read = self._all([prompt for hop in asked for prompt in hop[:last]], (), batch_tokens)[0]
        vectors[nodes, :last] = read.reshape(len(nodes), last, width)
        if self.answers:
            read, scores = self._all([hop[last] for hop in asked], self.answers, batch_tokens)
            vectors[nodes, last], logits[nodes] = read, scores
        if self.names is not None:
            read = vectors[nodes, -1].astype(np.float32)
            logits[nodes] = read / np.linalg.norm(read, axis=1, keepdims=True) @ self.names.T / _SHARP
        bad = ~np.isfinite(vectors[nodes]).all((1, 2))
        if bad.any():
            node = start + int(nodes[bad][0])
            raise FloatingPointError(f"the model's output for node {node} is not finite, or too large for float16")
        return Cache(
            logits,
            self.graph.node_id.numpy()[start:stop],
            self.observed[start:stop],
            self.fingerprint,
            tuple(vectors[:, hop] for hop in range(hops)),
            self.settings,
            more={"explanation": self._written(nodes, start, rows, batch_tokens)} if self.explain else {},
        )

    def _written(self, nodes: np.ndarray, start: int, rows: int, batch_tokens: int) -> np.ndarray:
        """The explanations of nodes among so many rows, as bytes of UTF-8 of one length: arrays without pickle."""
        unique, place = _unique([self.reasons.ask(start + node)[0] for node in nodes.tolist()])
        texts = [b""] * len(unique)
        for batch in by_length([[*prompt, *[0] * self.explain] for prompt in unique], batch_tokens):
            told = self.model.write(self.model.padded([unique[each] for each in batch]), self.explain)
            for each, text in zip(batch, told):
                texts[each] = text.strip().replace("\0", "").encode()
        found = np.zeros(rows, dtype=f"S{_BYTES * self.explain}")
        found[nodes] = [texts[each] for each in place]
        return found

    def _all(
        self, asked: list[list[int]], answers: Sequence[Sequence[int]], batch_tokens: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the model for prompts; duplicates are read once."""
        unique, place = _unique(asked)
        vectors = np.empty((len(unique), self.model.width), dtype=np.float16)
        scores = np.empty((len(unique), len(answers)), dtype=np.float32)
        for batch in by_length(unique, batch_tokens):
            pooled, told = self.model.read(self.model.padded([unique[each] for each in batch]), answers)
            with np.errstate(over="ignore"):
                vectors[batch] = pooled.cpu().numpy()
            scores[batch] = told.float().cpu().numpy()
        return vectors[place], scores[place]


def _missing(path: Path, nodes: int, shard: int) -> list[tuple[int, int]]:
    """Ranges of nodes, at most `shard` long, that no shard in the folder has yet."""
    there = [(meta["start"], meta["start"] + meta["rows"]) for meta in shards_in(path)]
    ends = [0, *(stop for _, stop in there)]
    starts = [*(start for start, _ in there), nodes]
    return [(start, min(start + shard, stop)) for end, stop in zip(ends, starts) for start in range(end, stop, shard)]


def by_length(prompts: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Indices of prompts in batches of similar length, longest first: at most `tokens` with padding, or one prompt.

    >>> list(by_length([[1], [1, 2, 3], [1, 2], [4]], tokens=4))
    [[1], [2, 0], [3]]
    """
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    start = 0
    while start < len(order):
        count = max(1, tokens // max(1, len(prompts[order[start]])))
        yield order[start : start + count]
        start += count


def _unique(asked: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Different prompts, and which of them each one is."""
    number: dict[tuple[int, ...], int] = {}
    place = [number.setdefault(tuple(prompt), len(number)) for prompt in asked]
    return [list(prompt) for prompt in number], place


def _ready(model: LanguageModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
