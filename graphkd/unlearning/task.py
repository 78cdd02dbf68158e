"""What a graph network is trained on and asked about: pairs of nodes, or nodes."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from graphkd.teachers.call import call
from graphkd.training.loop import Evaluation, History, Schedule, train
from graphkd.unlearning.layers import encoder_of


class Task(ABC):
    """A graph, the elements to learn from, and what they are: edges, see `Links`, or nodes, see `Nodes`.

    Attributes:
        x: features `(N, F)`.
        edge_index: `(2, E)`, which messages pass over, in both directions.
        elements: to learn from: edges `(2, n)`, each once, or node ids `(n,)`. The last axis counts them.
    """

    x: Tensor
    edge_index: Tensor
    elements: Tensor
    quality: str
    """What `test` is called in a report."""

    def run(self, model: nn.Module) -> Tensor:
        """One row `(N, d)` for each node, with gradient."""
        return call(encoder_of(model), self.x, self.edge_index)

    @abstractmethod
    def logits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        """Class logits `(n, C)` of elements, from the rows of `run`; of pairs of nodes C is 2, edge and none."""

    @abstractmethod
    def confidence(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        """How sure the model is of what the elements are `(n,)`: of the edge, or of a node's own class."""

    @abstractmethod
    def traits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        """What an attack on membership reads of a model's answers `(n, k)`."""

    @abstractmethod
    def truth(self, elements: Tensor) -> Tensor:
        """The class `(n,)` of elements to learn from."""

    @abstractmethod
    def strangers(self, count: int, generator: torch.Generator) -> Tensor:
        """Elements, drawn, that tell nothing: non-edges, or any nodes."""

    @abstractmethod
    def kept(self, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Elements of a step about which a model is to answer as before."""

    @property
    @abstractmethod
    def steps_over(self) -> int:
        """How many elements an epoch of `kept` has."""

    @abstractmethod
    def supervised(self, model: nn.Module, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        """The loss by which a model is trained."""

    @abstractmethod
    def val(self, model: nn.Module, h: Tensor) -> float:
        """Quality on what was held back to select by."""

    @abstractmethod
    def test(self, model: nn.Module, h: Tensor) -> float | None:
        """Quality on the test part, None if there is none."""

    @abstractmethod
    def held_out(self) -> Tensor:
        """Elements that no model has learned from, of the test part."""

    @abstractmethod
    def shadow(self, deleted: Tensor, generator: torch.Generator) -> tuple[Task, Tensor]:
        """A smaller task of the same kind without deleted elements, and elements that are none of those it learns."""

    def ends(self, elements: Tensor) -> Tensor:
        """The nodes of elements, as often as they occur."""
        return elements.flatten()

    def fit(self, model: nn.Module, schedule: Schedule, seed: int) -> History:
        """Train a model in place, as all models of the task are trained; the epoch is chosen on the validation part."""
        generator = torch.Generator().manual_seed(seed)

        @torch.no_grad()
        def evaluate() -> Evaluation:
            return (self.val(model, self.run(model)), 0.0), None

        loss = functools.partial(self.supervised, model, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            count = self.elements.shape[-1]
            return train(model, loss, count, schedule=schedule, evaluate=evaluate, generator=generator)
