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
from densekd.adapt import ADAPT, Size, adapts
from densekd.context import WHERE, Context


class Term(nn.Module):
    """One distillation term: a loss between a tap of the student and a tap of a teacher.

    Where the taps yield several levels, the losses of the levels are summed.

    Args:
        loss: what `kdlosses.build` takes: a key, a dict with a `type`, a function or a module.
        student: tap of the student, see `densekd.Taps`.
        teacher: tap of the teacher, the student's if not given.
        weight: factor of the term in the total loss.
        name: the term is logged as `distill.loss_<name>`; the loss's own name if not given.
        adapt: how unlike taps are aligned, one of `densekd.adapt.ADAPT`.
        where: restrict the loss to some positions, one of `densekd.context.WHERE`.
        source: which teacher, where there are several.

    Raises:
        TypeError, ValueError, KeyError: the entry is wrong; the message says what would be right.
    """

    def __init__(
        self,
        loss: Any,
        student: str,
        teacher: str | None = None,
        weight: float = 1.0,
        name: str | None = None,
        adapt: str = "auto",
        where: str | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__()
        self.loss = kdlosses.build(loss)
        self.student = student
        self.teacher = teacher or student
        self.weight = weight
        self.name = name or self.loss.name
        self.how = adapt
        self.where = where
        self.source = source
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise TypeError(f"distills entry {self.name!r}: weight must be a finite number, got {weight!r}")
        if "." in self.name:
            raise ValueError(f"distills entry {self.name!r}: a name must not contain a dot")
        if adapt not in ADAPT:
            raise ValueError(f"distills entry {self.name!r}: adapt must be one of {ADAPT}, got {adapt!r}")
        if where is not None and where not in WHERE:
            raise ValueError(f"distills entry {self.name!r}: where must be one of {WHERE}, got {where!r}")
        if where is not None and "weight" not in self.loss.needs:
            raise ValueError(
                f"distills entry {self.name!r}: its loss takes no weight, so where={where!r} has no effect"
            )

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

    def fit(self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size) -> None:
        """Build what aligns the two taps from one look at what they yield."""
        try:
            self.adapt = adapts(student, teacher, image_size, self.loss.match, self.how)
        except ValueError as error:
            raise ValueError(f"distills entry {self.name!r} ({self.student} <- {self.teacher}): {error}") from error

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], context: Context) -> Tensor:
        if not len(student) == len(teacher) == len(self.adapt):
            raise RuntimeError(
                f"distills entry {self.name!r}: the taps yielded {len(student)} (student) and {len(teacher)} (teacher) "
                f"tensors, but {len(self.adapt)} when training began"
            )
        losses = []
        for adapt, s, t in zip(self.adapt, student, teacher):
            s, t = adapt(s, t, context.image_size)
            losses.append(self.loss(s, t, **context.gather(self.loss.needs, tuple(s.shape[2:]), self.where)))
        return self.weight * torch.stack(losses).sum()
