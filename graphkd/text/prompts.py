"""Prompts from a node's text and its neighbours' texts, one per number of hops, within a token budget."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graphkd.data.graph import Graph
from graphkd.sparse.edges import by_target
from graphkd.text.model import LanguageModel

_TEXTS = 4096  # tokenised at a time


def check_counts(least: int = 1, **values: int) -> None:
    """Raise ValueError unless all values are whole numbers from `least`."""
    for name, value in values.items():
        _count(name, value, least)


def _count(name: str, value: Any, least: int) -> int:
    try:
        found = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} is a whole number, got {value!r}") from error
    if found < least:
        raise ValueError(f"{name} counts from {least}, got {found}")
    return found


@dataclass(frozen=True)
class Prompts:
    """Settings of the prompts for a node.

    The prompt of hop k holds the node's own text and, hop by hop, those of `neighbours` nodes at each distance from 1
    to k, drawn without replacement from the neighbours of those drawn before; the sample of hop k begins with that of
    hop k - 1. Where a hop reaches no new node, its prompt is that of the hop before. A prompt never holds a label.

    Attributes:
        hops: the greatest distance; 0 uses the node alone.
        budget: tokens in a prompt, all in all. With neighbours the own text has at least half of what the instruction
            leaves, and what it does not need is theirs in equal parts. What is longer is cut.
        neighbours: how many at each distance.
        seed: draws them.
        before: instruction before the texts.
        between: what separates texts.
        after: what ends the prompt.
    """

    hops: int = 2
    budget: int = 256
    neighbours: int = 4
    seed: int = 0
    before: str = ""
    between: str = "\n"
    after: str = ""

    def __post_init__(self) -> None:
        for name, least in (("hops", 0), ("budget", 1), ("neighbours", 1), ("seed", 0)):
            object.__setattr__(self, name, _count(name, getattr(self, name), least))

    def settings(self) -> dict[str, Any]:
        return asdict(self)


INSTRUCTION = Prompts(
    before="Instruction: Name the class of the first text, given the texts that are linked with it.\nInput: ",
    between="\nLinked: ",
    after="\nResponse:",
)
"""For causal models, in the form on which they are tuned."""


EXPLANATION = Prompts(
    hops=0,
    before="Instruction: Name the classes that fit the text, the best first, and say why. Classes: {labels}.\nInput: ",
    after="\nResponse:",
)
"""For causal models that are to give their reasons, once the labels are filled in."""


class Asker:
    """Builds the tokenized prompts of a graph's nodes.

    Args:
        graph: with texts.
        model: whose tokens they are.
        prompts: prompt settings.
        observed: mask `(N,)` of the nodes that may be looked at; all if not given.
        spare: tokens to be left for the answer.

    Raises:
        ValueError: the graph has no texts, or the budget does not fit into the context or leaves no room for texts.
    """

    def __init__(
        self,
        graph: Graph,
        model: LanguageModel,
        prompts: Prompts,
        observed: np.ndarray | None = None,
        spare: int = 0,
    ) -> None:
        if graph.texts is None:
            raise ValueError("the graph has no texts: read it with graphkd.data.read_texts, or see text_graph")
        if prompts.budget + spare > model.context:
            raise ValueError(
                f"prompts of {prompts.budget} tokens and answers of {spare} are more than the {model.context} that the "
                "model reads; lower the budget"
            )
        self.prompts = prompts
        start, end = model.wrap
        before, self.between, after = model.ids([model.prompt + prompts.before, prompts.between, prompts.after])
        self.head, self.tail = [*start, *before], [*after, *end]
        self.room = prompts.budget - len(self.head) - len(self.tail)
        if self.room < 8 + len(self.between):
            raise ValueError(
                f"a budget of {prompts.budget} tokens leaves {self.room} for texts beside instruction and special ones"
            )
        crow, source = by_target(graph.edge_index, len(graph))
        if observed is not None:
            kept = observed[graph.edge_index.numpy()].all(0)
            crow, source = by_target(graph.edge_index[:, kept], len(graph))
        self.crow, self.source = crow.numpy(), source.numpy()
        self.ends, self.tokens = _tokens(model, graph.texts, self.room)
        unknown = model.tokenizer.unk_token_id
        if any(map(str.strip, graph.texts)) and (self.tokens == (-1 if unknown is None else unknown)).all():
            raise ValueError(
                "the tokenizer has no word of the texts, so that all of them would be read alike: it is that of "
                "another language or of another model"
            )

    def ask(self, node: int) -> list[list[int]]:
        """Return the prompts of a node, hop by hop from 0."""
        own, found = self._text(node), [self._joined(self._text(node), [])]
        draw = np.random.default_rng((self.prompts.seed, node))
        seen, frontier, told = {node}, [node], []
        for _ in range(self.prompts.hops):
            near = sorted(
                {int(each) for at in frontier for each in self.source[self.crow[at] : self.crow[at + 1]]} - seen
            )
            frontier = draw.permutation(near)[: self.prompts.neighbours].tolist()
            seen.update(frontier)
            told += [self._text(each) for each in frontier]
            found.append(self._joined(own, told) if frontier else found[-1])
        return found

    def _joined(self, own: Sequence[int], others: Sequence[Sequence[int]]) -> list[int]:
        others = [other for other in others if len(other)]
        if not others:
            return [*self.head, *own[: self.room], *self.tail]
        wanted = sum(len(self.between) + len(other) for other in others)
        own = own[: max(self.room // 2, self.room - wanted)]
        share = (self.room - len(own)) // len(others) - len(self.between)
        told = [token for other in others if share > 0 for token in (*self.between, *other[:share])]
        return [*self.head, *own, *told, *self.tail]

    def _text(self, node: int) -> list[int]:
        return self.tokens[self.ends[node] : self.ends[node + 1]].tolist()


def _tokens(model: LanguageModel, texts: Sequence[str], longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens of each text begin and end, and all tokens, one after the other."""
    parts, counts = [], [0]
    for start in range(0, len(texts), _TEXTS):
        for ids in model.ids(texts[start : start + _TEXTS]):
            parts.append(np.array(ids[:longest], dtype=np.int32))
            counts.append(len(parts[-1]))
    return np.cumsum(counts), np.concatenate(parts)
