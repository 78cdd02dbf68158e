"""One entry of `distills` on a graph: which layers, which loss, what weight."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.data.targets import known as labelled
from graphkd.networks.mlp import MLP
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson
from graphkd.training.task import task_of
from graphkd.training.truth import Truth
from kdlosses.auto_weight import entry_weight
from kdlosses.heads import head_spec, wrong_classes
from kdlosses.reduce import nothing
from kdlosses.truth import TRUTH, check_loss, check_smoothing, check_sources, listed, place_of

KNOWN = ("student_channels", "teacher_channels", "channels", "classes")
"""Options of losses that are filled in from student and teacher."""

ON_NODES = (
    *("weight", "labels", "edge_index", "batch", "progress", "epoch"),
    *("student_logits", "teacher_logits", "privacy"),
)
"""What a loss on nodes may require."""


class Term(nn.Module):
    """One distillation term: a loss between a layer of the student and one of the teacher.

    Where a loss wants equal shapes and the hidden layers are of unlike width, a linear layer, learnt beside the student
    and thrown away after, projects the student's onto the teacher's.

    Args:
        model: the student.
        lesson: what the student learns from.
        loss: what `kdlosses.build` takes: a key, a dict with a `type`, a function or a module.
        student: `logits`, `hidden` (the last hidden layer) or `hidden:i`.
        teacher: likewise, the student's if not given; the truth has none. Of several teachers `logits` are those of
            all, one after the other, as the policies for several teachers want them, and `hidden:i` counts their layers
            through.
        weight: factor of the term in the total loss, at least 0. `'auto'`: the factor at which its gradient, of the
            student's parameters, is as large as that of the loss on the labels, measured in the first steps and then
            kept; `dict(type='auto', ratio=0.5, steps=50)` is half as large, see `kdlosses.auto_weight.AutoWeight`.
        source: `'teacher'`, `'truth'`, the ground truth of the labelled nodes, or a list of both, one after the other
            along the channels. The truth is what it is in a dense entry, see `densekd.term.Term`: logits for a loss
            that takes a softmax or a sigmoid, the targets themselves for another. Other nodes count nothing then.
        smoothing: of the labels where a source is `'truth'`: the share of all classes alike.
        head: a learned head between a hidden layer of the student and the loss: `'linear'`, `'mlp'`, `'branch'`,
            `'module:name'`, a class or a dict, see `kdlosses.heads.head_spec`. It is learnt beside the student and
            thrown away after. The weight of the term is that of the head's own loss on labels, `label_loss`, too.

    What a loss must know of the two sides, `student_channels`, `teacher_channels`, `channels` (of both, where they
    agree), `classes` and `ignore_index`, is filled in where the entry does not give it; so is `truth`, where the first
    source is the truth.

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
        weight: float | str | Mapping[str, Any] = 1.0,
        source: str | Sequence[str] = "teacher",
        smoothing: float = 0.0,
        head: Any = None,
    ) -> None:
        super().__init__()
        entry = dict(loss=loss, student=student, weight=weight, source=source, smoothing=smoothing, head=head)
        plain = check_entry({**entry, **({} if teacher is None else {"teacher": teacher})})
        self.weight, self.auto = entry_weight(plain.name, weight)
        if "edge_index" in plain.requires:
            lesson.edges()
        self.layer = _layer("student", student, len(model.layers) - 1)
        place = _layer("teacher", teacher or student, len(lesson.hidden))
        self.sources = listed(source)
        mine = model.widths[self.layer]
        self.truth = Truth(plain, lesson, mine, float(smoothing)) if TRUTH in self.sources else None
        alone = self.sources == [TRUTH]
        self.teacher: Matrix | None = None if alone else [*lesson.hidden, lesson.joined_logits()][place]
        self.logits = lesson.teacher
        theirs = sum(mine if self.teacher is None or each == TRUTH else self.teacher.shape[1] for each in self.sources)
        self.hard, self.head = lesson.task.hard, None if head is None else head_spec(head)
        self.between: nn.Module | None = None
        if self.head is not None:
            classes = theirs if plain.match == "shape" else model.widths[-1]
            self.between = self.head.build(torch.zeros(2, mine, dtype=next(model.parameters()).dtype), classes)
            if plain.match == "shape" and self.head.classes not in (None, theirs):
                raise ValueError(f"distills entry {plain.name!r}: {wrong_classes(self.head.classes, theirs)}")
            mine = self.head.classes or classes
        project = plain.match == "shape" and mine != theirs and self.head is None
        if project and (self.layer == len(model.layers) - 1 or place == len(lesson.hidden)):
            raise ValueError(
                f"distills entry {plain.name!r}: student {student!r} is {mine} wide, teacher "
                f"{teacher or student!r} {theirs}; logits are not projected"
            )
        if plain.categorical and mine == 1:
            raise ValueError(f"distills entry {plain.name!r}: student {student!r} is one wide, the loss needs two")
        self.project: nn.Module = nn.Linear(mine, theirs) if project else nn.Identity()
        known = (theirs if project else mine, theirs, theirs, model.widths[-1])
        try:
            self.loss = kdlosses.build(loss, **dict(zip(KNOWN, known)), ignore_index=-1, **place_of(self.sources))
        except (TypeError, ValueError) as error:
            raise type(error)(f"distills entry {plain.name!r}: {error}") from error
        parts = [each.loss for each in (self.loss, *self.loss.modules()) if isinstance(each, kdlosses.Loss)]
        if any(getattr(each, "of_unlabelled", False) for each in parts) and len(lesson.labelled) == len(lesson):
            raise ValueError(
                f"distills entry {plain.name!r}: it teaches nodes without a label, and each of the {len(lesson)} nodes "
                "has one: keep some labels out of the training nodes, or choose another loss, such as 'kl'"
            )
        private = lesson.context(torch.arange(8) % len(lesson), ["privacy"]).get("privacy")
        self._try(*known, private=private)

    @torch.no_grad()
    def _try(self, mine: int, theirs: int, _: int, classes: int, private: Tensor | None) -> None:
        """Call a copy of a registered loss on a few nodes to find mismatches before training."""
        ground = getattr(self.loss.loss, "ground", None)
        if ground is None or ground.least is None:
            return
        made = dict(
            labels=torch.arange(8) % classes,
            edge_index=torch.stack([torch.arange(8), torch.arange(8).roll(1)]),
            progress=0.0,
            epoch=0,
            student_logits=torch.randn(8, classes, generator=torch.Generator().manual_seed(0)),
            teacher_logits=torch.randn(8, classes, generator=torch.Generator().manual_seed(1)),
            privacy=private,
        )
        student = torch.randn(8, mine, generator=torch.Generator().manual_seed(0))
        teacher = torch.randn(8, theirs, generator=torch.Generator().manual_seed(1))
        with torch.random.fork_rng(devices=[]):
            try:
                copy.deepcopy(self.loss)(student, teacher, **made)
                if self.truth is not None and self.sources == [TRUTH]:
                    self.truth.check(self.loss, student, made)
            except (TypeError, ValueError) as error:
                raise type(error)(f"distills entry {self.loss.name!r}: {error}") from error

    @classmethod
    def parse(cls, entry: Mapping[str, Any], model: MLP, lesson: Lesson) -> Term:
        """Build a term from its entry in a config; an unknown key raises and names the nearest known one."""
        check_entry(entry)
        return cls(model, lesson, **entry)

    def forward(self, outputs: Sequence[Tensor], nodes: Tensor | slice, context: Mapping[str, Any]) -> Tensor:
        student = self.project(outputs[self.layer]) if self.between is None else self.between(outputs[self.layer])
        if not self.weight or not self.loss.active(**context):
            return nothing(student)
        if "student_logits" in self.loss.needs:
            context = {**context, "student_logits": outputs[-1]}
        if "teacher_logits" in self.loss.needs:
            context = {**context, "teacher_logits": rows(self.logits, nodes)}
        taken = {name: context[name] for name in self.loss.needs if name in context}
        if self.truth is not None:
            truth, taken["weight"] = self.truth(context["labels"])
        each = [truth if source == TRUTH else rows(self.teacher, nodes) for source in self.sources]
        value = self.loss(student, each[0] if len(each) == 1 else torch.cat(each, 1), **taken)
        if self.head is not None and self.head.label_loss:
            told = labelled(context["labels"])
            if told.any():
                value = value + self.head.label_loss * self.hard(student[told], context["labels"][told])
        return self.weight * value


def check_entry(entry: Mapping[str, Any], task: str = "single-label") -> kdlosses.Loss:
    """Check an entry before there is a teacher and return its loss; raise the same errors as `Term`.

    For another `task` a loss on logits must not take a softmax of them, of numbers no sigmoid either.
    """
    known = list(inspect.signature(Term).parameters)[2:]
    for key in entry:
        if key not in known:
            raise TypeError(f"a distills entry has no key {key!r}; {kdlosses.nearest(key, known)}")
    if "loss" not in entry:
        raise TypeError(f"a distills entry needs a 'loss', got {dict(entry)}")
    sources = listed(entry.get("source", "teacher"))
    with torch.random.fork_rng(devices=[]):  # built twice, drawn once
        loss = kdlosses.build(entry["loss"], **dict.fromkeys(KNOWN, 8), **place_of(sources))
    entry_weight(loss.name, entry.get("weight", 1.0))
    _check_sources(loss, entry, sources, task)
    if entry.get("head") is not None:
        head_spec(entry["head"])
        if entry.get("teacher") is None:
            raise ValueError(
                f"distills entry {loss.name!r}: a head needs teacher=..., say 'logits', which it is to match"
            )
    if loss.maps:
        raise ValueError(f"distills entry {loss.name!r}: the loss needs maps (N, C, H, W), a graph has nodes (N, C)")
    for name in loss.requires:
        if name not in ON_NODES:
            raise ValueError(f"distills entry {loss.name!r}: the loss needs {name}, which a graph does not have")
    middle = "a head" if entry.get("head") is not None else "the loss" if loss.middle else ""
    if middle and entry.get("student", "logits") == "logits":
        raise ValueError(
            f"distills entry {loss.name!r}: {middle} stands on a hidden layer, student='hidden' or 'hidden:i', not on "
            "the logits"
        )
    if task != "single-label":
        if "labels" in loss.requires:
            raise ValueError(f"distills entry {loss.name!r}: the loss reads class labels, the targets are {task}")
        inside = [each.name for each in (loss, *loss.modules()) if isinstance(each, kdlosses.Loss)]
        sigmoid = task == "regression" and task_of("multi-label").soft in inside
        of_logits = entry.get("student", "logits") == "logits" or entry.get("head") is not None
        if of_logits and (sigmoid or _over_classes(loss)):
            raise ValueError(
                f"distills entry {loss.name!r}: the loss takes a {'sigmoid' if sigmoid else 'softmax'} of the logits, "
                f"which has no meaning for {task} targets; choose "
                + ("'mse'" if task == "regression" else "'binary_kl' or 'mse'")
            )
    for whose in ("student", "teacher"):
        if entry.get(whose) is not None:
            _layer(whose, entry[whose], None)
    return loss


def _check_sources(loss: kdlosses.Loss, entry: Mapping[str, Any], sources: list[Any], task: str) -> None:
    """Raise `TypeError` or `ValueError` unless an entry can learn from its sources."""
    where = f"distills entry {loss.name!r}"
    if not sources or any(sources.count(each) > 1 or each not in ("teacher", TRUTH) for each in sources):
        raise ValueError(f"{where}: source is 'teacher', {TRUTH!r}, or a list of both, got {entry['source']!r}")
    check_sources(loss.name, loss, sources)
    smoothing = check_smoothing(loss.name, entry.get("smoothing", 0.0), TRUTH in sources)
    if len(sources) > 1 and loss.match == "shape":
        raise ValueError(f"{where}: it takes one teacher, not several sources; use one for several, such as 'average'")
    if TRUTH not in sources:
        return
    try:
        check_loss(loss)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if entry.get("head") is not None:
        raise ValueError(
            f"{where}: a head has no meaning where a source is {TRUTH!r}: its own loss on the labels is "
            "head=dict(..., label_loss=1.0)"
        )
    for whose in ("student", "teacher"):
        if entry.get(whose) not in (None, "logits"):
            raise ValueError(f"{where}: source {TRUTH!r} has a value for each class, {whose}={entry[whose]!r} has not")
    if entry.get("teacher") is not None and sources == [TRUTH]:
        raise ValueError(f"{where}: source {TRUTH!r} has no tap: leave teacher= out")
    if smoothing and task == "regression":
        raise ValueError(f"{where}: smoothing is of labels, the targets are numbers")


def _over_classes(loss: kdlosses.Loss) -> bool:
    """Whether a loss, or one inside of it, compares the channels of a position with each other."""
    grounds = [getattr(each, "ground", None) for each in (loss.loss, *loss.modules())]
    grounds += [getattr(each.loss, "ground", None) for each in loss.modules() if isinstance(each, kdlosses.Loss)]
    return loss.categorical or any(ground is not None and ground.over_classes for ground in grounds)


def _layer(whose: str, tap: str, hidden: int | None) -> int:
    """Index of a tap among the hidden layers and the logits after them; -1 where their number is not known yet."""
    name, _, index = tap.partition(":") if isinstance(tap, str) else (None, "", "")
    if name not in ("logits", "hidden") or (index and (name == "logits" or not index.isdigit())):
        raise ValueError(f"{whose}={tap!r}: a layer is 'logits', 'hidden' (the last one) or 'hidden:i'")
    if hidden is None:
        return -1
    if name == "logits":
        return hidden
    place = int(index) if index else hidden - 1
    if not 0 <= place < hidden:
        raise ValueError(f"{whose}={tap!r}: the {whose} has {hidden} hidden layers")
    return place
