"""One entry of `distills` on a graph: which layers, which loss, what weight."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

import kdlosses
from graphkd.features import Matrix, rows
from graphkd.lesson import Lesson
from graphkd.mlp import MLP
from kdlosses.reduce import nothing


class Term(nn.Module):
    """One distillation term: a loss between a layer of the student and one of the teacher.

    Where a loss wants equal shapes and the hidden layers are of unlike width, a linear layer, learnt beside the student
    and thrown away after, projects the student's onto the teacher's.

    Args:
        model: the student.
        lesson: what the student learns from.
        loss: what `kdlosses.build` takes: a key, a dict with a `type`, a function or a module.
        student: `logits`, `hidden` (the last hidden layer) or `hidden:i`.
        teacher: likewise, the student's if not given. Of several teachers `logits` are those of all, one after the
            other, as the policies for several teachers want them, and `hidden:i` counts their layers through.
        weight: factor of the term in the total loss.

    Raises:
        TypeError, ValueError, KeyError: the entry is wrong; the message says what would be right.
    """

    def __init__(
        self,
        model: MLP,
        lesson: Lesson,
        loss: Any,
        student: str = "logits",
        teacher: str | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss = kdlosses.build(loss)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise TypeError(f"distills entry {self.loss.name!r}: weight must be a finite number, got {weight!r}")
        self.weight = weight
        for name in self.loss.requires:
            if name in ("boxes", "masks"):
                raise ValueError(
                    f"distills entry {self.loss.name!r}: the loss needs {name}, which a graph does not have"
                )
        if "edge_index" in self.loss.requires:
            lesson.edges()
        self.layer = _layer("student", student, len(model.layers) - 1)
        source = _layer("teacher", teacher or student, len(lesson.hidden))
        self.teacher: Matrix = [*lesson.hidden, lesson.joined_logits()][source]
        mine, theirs = model.widths[self.layer], self.teacher.shape[1]
        project = self.loss.match == "shape" and mine != theirs
        if project and (self.layer == len(model.layers) - 1 or source == len(lesson.hidden)):
            raise ValueError(
                f"distills entry {self.loss.name!r}: student {student!r} is {mine} wide, teacher "
                f"{teacher or student!r} {theirs}; logits are not projected"
            )
        self.project: nn.Module = nn.Linear(mine, theirs) if project else nn.Identity()

    @classmethod
    def parse(cls, entry: Mapping[str, Any], model: MLP, lesson: Lesson) -> Term:
        """Build a term from its entry in a config; a key that does not exist raises with the nearest right one."""
        known = list(inspect.signature(cls).parameters)[2:]
        for key in entry:
            if key not in known:
                raise TypeError(f"a distills entry has no key {key!r}; {kdlosses.nearest(key, known)}")
        if "loss" not in entry:
            raise TypeError(f"a distills entry needs a 'loss', got {dict(entry)}")
        return cls(model, lesson, **entry)

    def forward(self, outputs: Sequence[Tensor], nodes: Tensor | slice, context: Mapping[str, Any]) -> Tensor:
        student = self.project(outputs[self.layer])
        taken = {name: context[name] for name in self.loss.needs if name in context}
        if not self.loss.active(**context):
            return nothing(student)
        return self.weight * self.loss(student, rows(self.teacher, nodes), **taken)


def _layer(whose: str, tap: str, hidden: int) -> int:
    """Index of a tap among the hidden layers and the logits after them."""
    name, _, index = tap.partition(":")
    if name == "logits" and not index:
        return hidden
    if name != "hidden" or (index and not index.isdigit()):
        raise ValueError(f"{whose}={tap!r}: a layer is 'logits', 'hidden' (the last one) or 'hidden:i'")
    place = int(index) if index else hidden - 1
    if not 0 <= place < hidden:
        raise ValueError(f"{whose}={tap!r}: the {whose} tells {hidden} hidden layers")
    return place
