"""One entry of `distills`: which taps, which loss, what weight."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from densekd.adapt import ADAPT, Size, adapts, join
from densekd.context import LOGITS, OF_A_RUN, WHERE, Context

KNOWN = ("student_channels", "teacher_channels", "channels", "classes")
"""Options of losses that the two sides tell."""


class Term(nn.Module):
    """One distillation term: a loss between a tap of the student and a tap of a teacher.

    Where the taps yield several levels, the losses of the levels are summed. Several teachers are one teacher with the
    channels of all of them, one after the other, for a loss that can tell them apart, such as `meal`.

    Args:
        loss: what `kdlosses.build` takes: a key, a dict with a `type`, a function or a module.
        student: tap of the student, see `densekd.Taps`.
        teacher: tap of the teacher, the student's if not given; of several teachers one that all have, or a list.
        weight: factor of the term in the total loss; at 0 the teacher is not asked.
        name: the term is logged as `distill.loss_<name>`; the loss's own name if not given.
        adapt: how unlike taps are aligned, one of `densekd.adapt.ADAPT`.
        where: restrict the loss to some positions, one of `densekd.context.WHERE`.
        source: which teacher, where there are several, or a list of them.
        class_map: for each of the student's classes the teacher's that stands for it, where `teacher` yields logits
            of other classes; one may stand for several.
        back: the other way round: the teacher, one that is `online`, learns from the student.

    What a loss must know of the two sides, `student_channels`, `teacher_channels`, `channels` (of both, where they
    agree) and `classes`, is filled in where the entry does not give it.

    Raises:
        TypeError, ValueError, KeyError: the entry is wrong; the message says what would be right.
    """

    def __init__(
        self,
        loss: Any,
        student: str,
        teacher: str | Sequence[str] | None = None,
        weight: float = 1.0,
        name: str | None = None,
        adapt: str = "auto",
        where: str | None = None,
        source: str | Sequence[str] | None = None,
        class_map: Sequence[int] | None = None,
        back: bool = False,
    ) -> None:
        super().__init__()
        self.spec = loss
        self.loss = kdlosses.build(loss, **dict.fromkeys(KNOWN, 8))  # for what it says of itself, until `fit`
        self.student = student
        self.weight = weight
        self.name = name or self.loss.name
        self.how = adapt
        self.where = where
        self.class_map = None if class_map is None else list(class_map)
        self.back = back
        self.sources = [source] if source is None or isinstance(source, str) else list(source)
        taps = teacher or student
        self.teachers = [taps] * len(self.sources) if isinstance(taps, str) else list(taps)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise TypeError(f"distills entry {self.name!r}: weight must be a finite number, got {weight!r}")
        if "." in self.name or self.name == "peers":
            raise ValueError(f"distills entry {self.name!r}: a name must not contain a dot, nor be 'peers'")
        if adapt not in ADAPT:
            raise ValueError(f"distills entry {self.name!r}: adapt must be one of {ADAPT}, got {adapt!r}")
        if where is not None and where not in WHERE:
            raise ValueError(f"distills entry {self.name!r}: where must be one of {WHERE}, got {where!r}")
        if where is not None and "weight" not in self.loss.needs:
            raise ValueError(
                f"distills entry {self.name!r}: its loss takes no weight, so where={where!r} has no effect"
            )
        if not self.sources or len(self.teachers) != len(self.sources):
            raise ValueError(
                f"distills entry {self.name!r}: teacher={teacher!r} must be one tap, or one for each of {source!r}"
            )
        if len(self.sources) > 1 and self.loss.match in ("shape", "channels"):
            raise ValueError(
                f"distills entry {self.name!r}: its loss compares the student with one teacher, source names "
                f"{len(self.sources)}; a loss for several, such as 'meal', takes the channels of all of them"
            )
        if len(self.sources) > 1 and self.asks_logits:
            raise ValueError(f"distills entry {self.name!r}: its loss asks for the logits of one teacher, not several")
        if len(self.sources) > 1 and adapt in ("conv1x1", "gl_mixer", "ea", "csf"):
            raise ValueError(f"distills entry {self.name!r}: adapt={adapt!r} projects onto one teacher, not several")

    @property
    def asks_logits(self) -> bool:
        """Whether the loss wants to know what both sides say of the classes, whatever its own taps are."""
        return not {*LOGITS}.isdisjoint(self.loss.needs)

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Term:
        """Build a term from its entry in the config; a key that does not exist raises with the nearest right one."""
        keys = list(inspect.signature(cls).parameters)
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)[0]
                raise TypeError(f"a distills entry has no key {key!r}, did you mean {near!r}? Known: {', '.join(keys)}")
        for key in ("loss", "student"):
            if key not in entry:
                raise TypeError(f"a distills entry needs {key!r}, got {dict(entry)}")
        return cls(**entry)

    def fit(
        self,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        image_size: Size | None,
        classes: int | None = None,
    ) -> None:
        """Build what aligns the taps, and the loss, from one look at what they yield."""
        try:
            learner, guide = self._sides(student, teachers, image_size)
            self.levels = len(learner), len(guide)
            self.adapt = adapts(learner, guide, image_size, self.loss.match, self.how).to(learner[0].device)
            with torch.no_grad():  # in evaluation mode a look at a blank image leaves no trace in batch statistics
                pairs = self.adapt.eval()(learner, guide, image_size)
            self.adapt.train()
            widths = {(s.shape[1], t.shape[1]) for s, t in pairs}
            mine, its = min(widths)
            known = dict(student_channels=mine, teacher_channels=its, channels=its, classes=classes)
            self.loss = kdlosses.build(self.spec, **{key: value for key, value in known.items() if value is not None})
            if len(widths) > 1 and self.loss.filled - {"classes"}:
                raise ValueError(
                    f"its loss is built for one number of channels, the levels have {sorted(widths)}; write an entry "
                    "for each"
                )
        except ValueError as error:
            taps = ", ".join(dict.fromkeys(self.teachers))
            raise ValueError(f"distills entry {self.name!r} ({self.student} <- {taps}): {error}") from error

    def _sides(
        self, student: Sequence[Tensor], teachers: Sequence[Sequence[Tensor]], image_size: Size | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Who learns, and from whom: the levels of each."""
        if self.class_map is not None:
            teachers = [[self._of_mapped_classes(level) for level in levels] for levels in teachers]
        teacher = join(student, teachers, image_size, self.how)
        return (teacher, student) if self.back else (student, teacher)

    def _of_mapped_classes(self, logits: Tensor) -> Tensor:
        assert self.class_map is not None
        if not all(0 <= k < logits.shape[1] for k in self.class_map):
            raise ValueError(f"class_map names classes of 0 to {logits.shape[1] - 1}, got {self.class_map}")
        return logits[:, self.class_map]

    def active(self, context: Context) -> bool:
        """Whether the term can differ from 0 now, so that its teachers must be asked."""
        now = context.gather(self.loss.needs, ())
        unknown = [key for key in OF_A_RUN if key in self.loss.requires and key not in now]  # the loss will say so
        return bool(self.weight) and (bool(unknown) or self.loss.active(**now))

    def nothing(self, student: Sequence[Tensor]) -> Tensor:
        """Return the 0 of a term that is off. What it would teach gets a gradient of 0: DDP waits for one."""
        taught = [*(x[:0] for x in student), *(weight.flatten()[:0] for weight in self.parameters())]
        return torch.stack([x.sum().float() for x in taught]).sum()

    def forward(
        self,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        context: Context,
        logits: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sum of the loss over the levels; `logits` of student and teacher where the loss asks for them."""
        learner, guide = self._sides(student, teachers, context.image_size)
        if (len(learner), len(guide)) != self.levels:
            raise RuntimeError(
                f"distills entry {self.name!r}: the taps yielded {len(learner)} (student) and {len(guide)} (teacher) "
                f"tensors, but {self.levels[0]} and {self.levels[1]} when training began"
            )
        told = {} if logits is None else dict(zip(LOGITS, reversed(logits) if self.back else logits))
        losses = []
        for s, t in self.adapt(learner, guide, context.image_size):
            found = context.gather(self.loss.needs, tuple(s.shape[2:]), self.where, len(s))
            losses.append(self.loss(s, t, **found, **told))
        return self.weight * torch.stack(losses).sum()
