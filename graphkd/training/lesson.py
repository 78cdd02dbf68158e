"""The training data of a student: its features, its labels, and the teacher's outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from graphkd.data.targets import known
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import near
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.latency import hops
from graphkd.training.loop import Clock, History, rehearsed
from graphkd.training.task import TASKS, Task

_ROWS = 65_536  # nodes in one forward


class Asked(Protocol):
    """Teachers that can be asked, see `graphkd.teachers.live.Live`."""

    @property
    def x(self) -> Matrix | None: ...

    def __len__(self) -> int: ...

    def __call__(
        self,
        x: Tensor,
        nodes: Tensor | slice = slice(None),
        edge_index: Tensor | None = None,
        which: int | None = None,
    ) -> Tensor: ...

    def upper(self, hidden: Tensor, nodes: Tensor | slice = slice(None), which: int = -1) -> Tensor: ...

    def classifier(self, which: int = -1) -> tuple[Tensor, nn.Linear]: ...


@dataclass(frozen=True, eq=False)
class Lesson:
    """The data that a recipe may use. Labels outside the training set and rows of unseen nodes are left out.

    Attributes:
        x: features `(N, F)` in memory or on disk.
        labels: `(N,)`, -1 where unknown to the student; of other tasks `(N, L)`, see `graphkd.training.task.TASKS`.
            Numbers are standardised, the teacher's outputs likewise, see `graphkd.training.units.Units`.
        train: the shared training loop with its schedule bound, to be called as `train(model, loss, nodes)`; with
            `evaluate=None` it keeps the last epoch, and reads no label of a validation node.
        generator: for whatever a recipe samples.
        teacher: logits `(N, C)` in memory or on disk; of several teachers one after the other, `(N, E C)`.
        edge_index: `(2, E)` among these nodes.
        batch_size: labelled nodes in one step, None for all.
        hidden: the teacher's hidden layers `(N, d)`, first to last, as far as they are given; teacher by teacher.
        clock: how far the training is.
        parts: see `Cache.parts`; counts only while `teacher` has as many columns.
        own_tasks: see `Cache.own_tasks`.
        more: see `Cache.more`; see `extra`.
        params: see `Cache.params`; see `extra`.
        live: the teachers themselves, for recipes that ask about changed features; see `live_teacher`.
        task: what is predicted; its losses are `task.hard` on labels and `task.soft`, a name, on the teacher's outputs.
    """

    x: Matrix
    labels: Tensor
    train: Callable[..., History]
    generator: torch.Generator
    teacher: Matrix | None = None
    edge_index: Tensor | None = None
    batch_size: int | None = None
    hidden: Sequence[Matrix] = ()
    clock: Clock = field(default_factory=Clock)
    parts: tuple[tuple[int, int], ...] = ()
    own_tasks: bool = False
    more: Mapping[str, Matrix] = field(default_factory=dict)
    params: Mapping[str, Tensor] = field(default_factory=dict)
    task: Task = TASKS["single-label"]
    live: Asked | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def teacher_logits(self) -> Matrix:
        """Return the teacher's logits `(N, C)`; raise if there is no teacher.

        Several teachers count as one: the outputs of the mean of their predictions, in memory.
        """
        if self.own_tasks:
            raise ValueError(
                "the teachers have their own classes, but this recipe needs the student's; use distill_weighted"
            )
        several = [rows(logits) for _, logits in self.teachers()]
        return self.task.together(torch.stack(several, 1)) if len(several) > 1 else self.joined_logits()

    def joined_logits(self) -> Matrix:
        """The logits of all teachers, one after the other: `(N, E C)`."""
        if self.teacher is None:
            raise ValueError("this recipe learns from a teacher: fit(..., teacher=logits or cache)")
        return self.teacher

    def teachers(self) -> list[tuple[Sequence[Matrix], Matrix]]:
        """The hidden layers and the logits of each teacher."""
        logits = self.joined_logits()
        if not self.parts or sum(columns for columns, _ in self.parts) != logits.shape[1]:
            return [(self.hidden, logits)]
        found, column, layer = [], 0, 0
        for columns, layers in self.parts:
            found.append((self.hidden[layer : layer + layers], logits[:, column : column + columns]))
            column, layer = column + columns, layer + layers
        return found

    def edges(self) -> Tensor:
        """Return the edges; raise if there are none."""
        if self.edge_index is None:
            raise ValueError(
                "this recipe learns from the edges: fit(..., edge_index=edges); those of a graph with edge_weight are "
                "not shown"
            )
        rehearsed()
        return self.edge_index

    def extra(self, name: str) -> Any:
        """Return an extra output of the teacher, of each node or of itself; raise if the cache has none."""
        found = {**self.more, **self.params}
        if name not in found:
            raise ValueError(
                f"this recipe needs {name!r} of the teacher, whose extra outputs are {sorted(found) or 'none'}: "
                f"train_teacher(..., extras=[{name!r}]), or a Cache with it in `more` or `params`"
            )
        return found[name]

    def live_teacher(self, recipe: str) -> Asked:
        """The teachers, to be asked about changed features, layers or edges; raise if there is only what they said.

        Called as `live(x, nodes)` it returns logits `(n, E C)`, with a gradient to x and none to the teachers; `which`
        is the number of one of them. What the student must not see is not in their graph either.
        """
        if self.live is None:
            raise ValueError(
                f"{recipe} asks the teacher about changed features or layers, and there are only its outputs: pass the "
                "network itself, or a cache with its weights (train_teacher(..., extras=['weights'])), and no features "
                f"but the graph's own; or {recipe} with ask=False, which needs no more than these outputs"
            )
        if len(self.live) != len(self) or not (self.live.x is None or self.live.x is self.x):
            raise ValueError(
                f"{recipe} asks the teacher about {len(self.live)} nodes, of which the method around it shows others: "
                f"{len(self)}; run it by itself, or with ask=False"
            )
        return self.live

    def context(self, nodes: Tensor | slice, needs: Collection[str]) -> dict[str, Any]:
        """Context of losses on these nodes: labels (-1 unknown), edges among them; epoch and progress always.

        How private each node is, `privacy`, is an extra output of the teacher, `Cache(more=dict(privacy=mask))`.
        """
        context: dict[str, Any] = {"labels": self.labels[nodes], **vars(self.clock)}
        if "edge_index" in needs and self.edge_index is not None:
            context["edge_index"] = self.edge_index if isinstance(nodes, slice) else self._among(nodes)
        if "privacy" in needs and "privacy" in self.more:
            context["privacy"] = rows(self.more["privacy"], nodes).flatten()
        return context

    def _among(self, nodes: Tensor) -> Tensor:
        place = torch.full((len(self),), -1)
        place[nodes] = torch.arange(len(nodes))
        assert self.edge_index is not None
        ends = place[self.edge_index]
        return ends[:, (ends >= 0).all(0)]

    @torch.no_grad()
    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        """Logits of a model in evaluation mode, of all nodes or of some, in parts; its mode stays as it was."""
        training = model.training
        model.eval()
        asked = torch.arange(len(self)) if nodes is None else nodes
        found = torch.cat([self.logits(model, part) for part in asked.split(_ROWS)])
        model.train(training)
        return found

    def logits(self, model: nn.Module, nodes: Tensor) -> Tensor:
        """Logits of some nodes, from a model that reads features or from one that reads edges, too.

        The latter sees the whole graph where a step takes all nodes, and else what is around these, see `outputs`.
        """
        if not getattr(model, "reads_edges", False):
            return model(rows(self.x, nodes))
        return (
            self.outputs(model, slice(None))[-1][nodes] if self.batch_size is None else self.outputs(model, nodes)[-1]
        )

    def outputs(self, model: Any, nodes: Tensor | slice) -> list[Tensor]:
        """Hidden layers and logits of some nodes, from a model that reads features or from one that reads edges, too.

        The latter sees the whole graph, or around a batch of nodes as many hops as it looks, if that is known: exact
        but for layers that weigh an edge by the degree of its source, which is that in the part.
        """
        if not getattr(model, "reads_edges", False):
            return model.outputs(rows(self.x, nodes))
        if isinstance(nodes, slice) or not hops(model):
            return [found[nodes] for found in model.outputs(rows(self.x), self.edges())]
        crow, source = self._by_target
        around = near(crow, source, nodes, hops(model))
        return [found[: len(nodes)] for found in model.outputs(rows(self.x, around.nodes), around.edges)]

    @functools.cached_property
    def _by_target(self) -> tuple[Tensor, Tensor]:
        return by_target(self.edges(), len(self))

    @functools.cached_property
    def labelled(self) -> Tensor:
        """Ids of the labelled nodes."""
        return known(self.labels).nonzero().flatten()

    def some_labelled(self) -> Tensor:
        """The labelled nodes, or `batch_size` of them drawn anew."""
        told = self.labelled
        if self.batch_size is None or self.batch_size >= len(told):
            return told
        return told[torch.randperm(len(told), generator=self.generator)[: self.batch_size]]

    def hard_loss(self, model: nn.Module) -> Tensor:
        """Loss of the task on the labelled nodes, cross-entropy of classes, or on `batch_size` of them drawn anew."""
        told = self.some_labelled()
        return self.task.hard(self.logits(model, told), self.labels[told])


def check_lam(recipe: str, lam: float) -> None:
    """Raise ValueError unless `lam`, the weight of the labels in a recipe, is a share."""
    if not 0 <= lam <= 1:
        raise ValueError(f"{recipe}: lam is the weight of the labels, from 0 to 1, got {lam}")


def check_even(recipe: str, even: bool | float) -> None:
    """Raise ValueError unless `even` is what `even_targets` takes."""
    if not 0 <= even <= 1:
        raise ValueError(f"{recipe}: even is False, True or the share of a node's own target, from 0 to 1, got {even}")
