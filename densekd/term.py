"""One entry of `distills`: which taps, which loss, what weight."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import kdlosses
from densekd.align.adapt import ADAPT, Size, adapts, join, lay_out
from densekd.assigned import of_locations, of_sigmoids
from densekd.context import LOGITS, OF_A_RUN, OF_AN_ASSIGNER, OF_EDGES, WHERE, LossInputs
from densekd.edges import WIDTH
from densekd.truth import Truth
from kdlosses.auto_weight import AutoWeight, entry_weight
from kdlosses.heads import HeadSpec, head_spec, label_loss, wrong_classes
from kdlosses.truth import TRUTH, check_smoothing, check_sources, listed, place_of

KNOWN = ("student_channels", "teacher_channels", "channels", "classes")
"""Options of losses that are filled in from the models; so is `ignore_index`, which no loss requires."""

LEARNED = ("conv1x1", "gl_mixer", "ea", "csf", "cat")
"""Values of `adapt` that mix channels, so that they are no longer the classes of a head."""

JOINED = ("weight", "labels", "progress", "epoch")
"""What a loss may read of positions that are joined from several levels."""


def provisional(loss: Any, sources: Sequence[str | None]) -> kdlosses.Loss:
    """Build the loss of an entry before the models are known: for what it says of itself."""
    return kdlosses.build(loss, **{**dict.fromkeys(KNOWN, 8), **place_of(sources)})


class Term(nn.Module):
    """One distillation term: a loss between a tap of the student and a tap of a teacher.

    Where the taps yield several levels, the losses of the levels are summed. Several teachers are concatenated along
    the channels, for a loss that takes several, such as `meal`.

    Args:
        loss: what `kdlosses.build` takes: a key, a dict with a `type`, a function or a module.
        student: tap of the student, see `densekd.Taps`.
        teacher: tap of the teacher, the student's if not given; of several teachers one that all have, or a list.
        weight: factor of the term in the total loss; at 0 the term needs no teacher. `'auto'`: the factor at which its
            gradient at the tap is as large as the task's, measured in the first steps and then kept;
            `dict(type='auto', ratio=0.5, steps=50)` is half as large, see `kdlosses.auto_weight.AutoWeight`.
        name: the term is logged as `distill.loss_<name>`; the loss's own name if not given.
        adapt: how taps of different shapes are aligned, one of `densekd.align.adapt.ADAPT`.
        where: restrict the loss to some positions, one of `densekd.context.WHERE`.
        width: of the band that `where='boundary'` chooses and `where='body'` leaves out: how near an edge, in pixels of
            the labels or masks; 3 if not given.
        source: which teacher, where there are several, or a list of them. `'truth'` is the ground truth, by itself or
            among them: for a loss that takes a softmax or a sigmoid the logits of the labels, for another, such as
            `mse` or `assistive`, 1 for the class and 0 for the others, or the numbers to be predicted where a context
            has `targets`. A position without a label counts nothing, whatever the other sources say.
        class_map: for each of the student's classes the teacher's, where `teacher` yields logits of other classes; one
            class of the teacher may serve several of the student's.
        back: reverse the direction: the teacher, which must be `online`, learns from the student.
        class_weight: how much a position counts in the loss by the class of its label: a number for each class, or
            `'task'` for the weights of the head's cross-entropy, `'equal'` for all alike. If not given it is 'task' for
            a weight that is measured, where head and loss have weights of classes and of positions, else 'equal': a
            loss that shall pull as hard as the task then pulls where the task does, not at the most frequent class.
        smoothing: of the labels where a source is `'truth'`: the share of all classes alike.
        join: compare the positions of all levels at once, `(B, C, P)`, so that a mean is one over all of them; else
            the losses of the levels are summed.
        through: a module between the taps and the loss, of a method such as `crosskd`: called with the levels of both
            sides, it returns other levels of both, and a weight of their positions for each level, or None. A level
            may have an axis of priors, `(B, C, A, h, w)`; labels are then those of the priors.
        head: a learned head between the tap that learns and the loss, for class logits of a middle layer: `'linear'`,
            `'mlp'`, `'branch'`, `'module:name'`, a class or a dict, see `kdlosses.heads.head_spec`. A tap of several
            levels has a head for each; one map of the teacher then serves all. Heads are trained with the student and
            are no part of it. The weight of the entry is that of `label_loss`, too.

    Options that follow from the models, `student_channels`, `teacher_channels`, `channels` (of both, where they agree)
    and `classes`, are filled in where the entry does not give them; so is `truth`, where the first source is the truth.

    Raises:
        TypeError, ValueError, KeyError: the entry is wrong; the message says what would be right.
    """

    weight: float
    auto: AutoWeight | None
    truth: Truth | None
    teachers: list[str]
    by_class: Tensor | None

    def __init__(
        self,
        loss: Any,
        student: str,
        teacher: str | Sequence[str] | None = None,
        weight: float | str | Mapping[str, Any] = 1.0,
        name: str | None = None,
        adapt: str = "auto",
        where: str | None = None,
        source: str | Sequence[str] | None = None,
        class_map: Sequence[int] | None = None,
        back: bool = False,
        class_weight: str | Sequence[float] | None = None,
        smoothing: float = 0.0,
        head: Any = None,
        join: bool = False,
        through: nn.Module | None = None,
        width: float | None = None,
    ) -> None:
        super().__init__()
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"distills entry: name must be a string, got {name!r}")
        if not all(each is None or isinstance(each, str) for each in listed(source)):
            raise TypeError(f"distills entry: source must be the name of a teacher, or a list, got {source!r}")
        self._spec = (loss,)  # in a tuple: a module is a part of this one as its loss alone
        self.sources = listed(source)
        self.loss = provisional(loss, self.sources)  # for what it says of itself, until `fit`
        self.student = student
        self.name = name or self.loss.name
        self.how = adapt
        self.where, self.width = where, WIDTH if width is None else width
        self.class_map = None if class_map is None else _classes(self.name, class_map)
        self.back = back
        taps: Any = student if teacher is None else teacher
        asked = sum(each != TRUTH for each in self.sources)
        self.teachers = list(taps) if isinstance(taps, list | tuple) else [taps] * asked
        self.sigmoid: tuple[bool, list[bool]] = False, [False] * len(self.sources)
        self.weight, self.auto = entry_weight(self.name, weight)
        self.class_weight = _class_weight(self.name, class_weight)
        self.head, self.heads = self._head_spec(head, teacher), nn.ModuleList()
        self.join, self.through = join, through
        self.register_buffer("by_class", None, persistent=False)
        check_sources(self.name, self.loss, self.sources)
        share = check_smoothing(self.name, smoothing, TRUTH in self.sources)
        if not isinstance(back, bool):
            raise TypeError(f"distills entry {self.name!r}: back must be True or False, got {back!r}")
        if back and self.auto is not None:
            raise ValueError(
                f"distills entry {self.name!r}: weight 'auto' is measured beside the student's task, but with "
                "back=True the teacher learns: give a number"
            )
        for side, tap in (("student", student), *(("teacher", tap) for tap in self.teachers)):
            if not isinstance(tap, str):
                raise TypeError(f"distills entry {self.name!r}: the tap of the {side} must be a string, got {tap!r}")
        if "." in self.name or self.name == "peers" or hasattr(nn.ModuleDict(), self.name):
            raise ValueError(
                f"distills entry {self.name!r}: a name must not contain a dot, nor be 'peers', nor an attribute of "
                "torch's ModuleDict, such as 'keys' or 'train'"
            )
        if not isinstance(adapt, str) or adapt not in ADAPT:
            raise ValueError(f"distills entry {self.name!r}: adapt must be one of {ADAPT}, got {adapt!r}")
        if where is not None and not (isinstance(where, str) and where in WHERE):
            raise ValueError(f"distills entry {self.name!r}: where must be one of {WHERE}, got {where!r}")
        if width is not None and where not in OF_EDGES:
            raise ValueError(f"distills entry {self.name!r}: width is that of a band, of where='boundary' or 'body'")
        if isinstance(self.width, bool) or not isinstance(self.width, Real) or not 1 <= float(self.width) < math.inf:
            raise ValueError(
                f"distills entry {self.name!r}: the pixels on both sides of an edge are 1 apart: width must be a "
                f"number of at least 1, got {width!r}"
            )
        if where is not None and "weight" not in self.loss.needs:
            raise ValueError(
                f"distills entry {self.name!r}: its loss takes no weight, so where={where!r} has no effect"
            )
        if self.class_weight not in (None, "equal") and "weight" not in self.loss.needs:
            raise ValueError(
                f"distills entry {self.name!r}: its loss takes no weight, so class_weight={class_weight!r} has no "
                "effect"
            )
        if not self.sources or len(self.teachers) != asked or (teacher is not None and not asked):
            raise ValueError(
                f"distills entry {self.name!r}: teacher={teacher!r} must be one tap, or one for each of {source!r}"
                + (f"; {TRUTH!r} has no tap" if TRUTH in self.sources else "")
            )
        self.truth = Truth(self.name, student, self.loss, share) if TRUTH in self.sources else None
        self._check_levels(head)
        wrong = {"class_map": class_map is not None, "back": back, f"adapt={adapt!r}": adapt in LEARNED}
        for key, there in wrong.items():
            if self.truth is not None and there:
                raise ValueError(f"distills entry {self.name!r}: {key} has no meaning where a source is {TRUTH!r}")
        if len(self.sources) > 1 and self.loss.match in ("shape", "channels"):
            raise ValueError(
                f"distills entry {self.name!r}: its loss takes one teacher, but source names "
                f"{len(self.sources)}; use a loss for several teachers, such as 'meal'"
            )
        if len(self.sources) > 1 and self.asks_logits:
            raise ValueError(f"distills entry {self.name!r}: its loss needs the logits of one teacher, not several")
        if len(self.sources) > 1 and adapt in LEARNED and adapt != "cat":
            raise ValueError(f"distills entry {self.name!r}: adapt={adapt!r} projects onto one teacher, not several")

    def _check_levels(self, head: Any) -> None:
        """Raise an error if `join` or `through` has a wrong value, or no meaning beside the other keys."""
        if not isinstance(self.join, bool):
            raise TypeError(f"distills entry {self.name!r}: join must be True or False, got {self.join!r}")
        if self.through is not None and not isinstance(self.through, nn.Module):
            raise TypeError(f"distills entry {self.name!r}: through must be a module, got {self.through!r}")
        beyond = [name for name in self.loss.requires if name not in JOINED]
        if self.join and (beyond or self.loss.maps):
            raise ValueError(
                f"distills entry {self.name!r}: join=True makes one row of the positions of all levels, of which loss "
                f"{self.loss.name!r} cannot read {beyond[0] if beyond else 'the plane'!r}"
            )
        wrong = {"head": head is not None, "back": self.back, "class_map": self.class_map is not None}
        for key, there in {**wrong, f"a source {TRUTH!r}": self.truth is not None}.items():
            if there and (self.join or self.through is not None):
                what = "join" if self.join else "through"
                raise ValueError(f"distills entry {self.name!r}: {key} has no meaning beside {what}=")
        if (self.join or self.through is not None) and len(self.sources) > 1:
            raise ValueError(f"distills entry {self.name!r}: join and through are for one teacher")

    def _head_spec(self, head: Any, teacher: Any) -> HeadSpec | None:
        if head is None:
            return None
        if TRUTH in self.sources:
            raise ValueError(
                f"distills entry {self.name!r}: a head has no meaning where a source is {TRUTH!r}: its own loss on the "
                "labels is head=dict(..., label_loss=1.0)"
            )
        if self.how not in ("auto", "none", "resize", "tokens"):
            raise ValueError(f"distills entry {self.name!r}: the head makes logits, which adapt={self.how!r} would mix")
        if not teacher:
            raise ValueError(
                f"distills entry {self.name!r}: a head needs teacher=..., the tap that it is to match, such as that of "
                "the teacher's logits"
            )
        try:
            return head_spec(head)
        except (KeyError, TypeError, ValueError) as error:
            raise type(error)(f"distills entry {self.name!r}: {error.args[0]}") from error

    @property
    def mixes(self) -> bool:
        """Whether what stands between tap and loss makes other channels than the tap's."""
        return self.how in LEARNED or self.head is not None

    @property
    def asks_logits(self) -> bool:
        """Whether the loss needs the class logits of both sides, beside its own taps."""
        return not {*LOGITS}.isdisjoint(self.loss.needs)

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Term:
        """Build a term from its entry in the config; a key that does not exist raises with the nearest right one."""
        if not isinstance(entry, Mapping):
            raise TypeError(f"a distills entry is a dict with the keys loss and student, got {entry!r}")
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
        ignore_index: int | None = None,
        sigmoid: tuple[bool, Sequence[bool]] | None = None,
        of_task: Sequence[float] | None = None,
        assigned: bool = False,
    ) -> None:
        """Build the alignment and the loss from the tensors of a probe.

        Args:
            student: levels of the student's tap.
            teachers: levels of each teacher's tap.
            image_size: height and width of the image.
            classes: of the student's head.
            ignore_index: label that does not count, of the student's head.
            sigmoid: whether the channels of the student's tap, and of each teacher's, are logits of sigmoids.
            of_task: weights of the classes in the task's cross-entropy, None where it has none.
            assigned: whether the student's head assigns labels to its priors, so that each of several sigmoids has one.
        """
        self._classes, self._assigned = classes, assigned
        try:
            if self.categorical and sigmoid is not None and self.through is None:  # which lays out the classes itself
                self._treat_as_binary(student, teachers, sigmoid)
                classes = 2 if self.sigmoid[0] else classes
            binary = sigmoid is not None and sigmoid[0]
            truth = () if self.truth is None else self.truth.blank(student, classes, binary)
            learner, guide = self._sides(student, teachers, image_size, truth)
            self.levels = len(learner), len(guide)
            if self.through is not None:
                with torch.no_grad():
                    self.through.to(learner[0].device)
                    learner, guide, _ = self.through(learner, guide)
            learner, guide = self._with_heads(learner, guide, image_size)
            self._check_sides(learner, guide)
            how = "resize" if self.head is not None and self.how != "none" else self.how
            self.adapt = adapts(learner, guide, image_size, self.loss.match, how).to(learner[0].device)
            with torch.no_grad():  # in evaluation mode a blank image does not change batch statistics
                pairs = self.adapt.eval()(learner, guide, image_size)
            self.adapt.train()
            widths = {(s.shape[1], t.shape[1]) for s, t in pairs}
            if self.join and (len(widths) > 1 or any(s.ndim < 3 for s, _ in pairs)):
                raise ValueError(
                    "join=True makes one row of the positions of levels of one number of channels; the tap yields "
                    f"{', '.join(str(tuple(s.shape)) for s, _ in pairs)}"
                )
            mine, its = min(widths)
            self._check_channels(min(mine, its))
            if self.where in OF_AN_ASSIGNER and not assigned:
                raise ValueError(
                    f"where={self.where!r} needs a student whose head assigns labels to its positions, as mmdet's "
                    "one-stage detectors do, or to its proposals, at a tap of class logits"
                )
            rows = assigned and self.where == "objects" and all(s.ndim == 2 for s, _ in pairs)
            if self.where is not None and not rows and any(not self._is_map(s) for s, _ in pairs):
                raise ValueError(
                    f"where={self.where!r} chooses positions of a map (B, C, h, w); the tap yields "
                    f"{', '.join(str(tuple(s.shape)) for s, _ in pairs)}"
                )
            weights = self._weights_of_classes(of_task, classes, all(s.ndim == 4 for s, _ in pairs))
            self.by_class = None if weights is None else learner[0].new_tensor(weights, dtype=torch.float32)
            sides = dict(student_channels=mine, teacher_channels=its, channels=its)
            known = {**sides, "classes": classes, "ignore_index": ignore_index, **place_of(self.sources)}
            self.loss = kdlosses.build(*self._spec, **{key: value for key, value in known.items() if value is not None})
            for part in self.loss.modules():  # options, files among them, may be for some channels alone
                check = getattr(part, "check_channels", None)
                if check is not None and len(self.sources) == 1:
                    check(its)
            if self.truth is not None and self.sources == [TRUTH]:
                self.truth.check_certain(self.loss, learner[0], guide[0])
            if len(widths) > 1 and self.loss.filled & {*sides}:
                raise ValueError(
                    f"its loss is built for one number of channels, the levels have {sorted(widths)}; write an entry "
                    "for each"
                )
        except ValueError as error:
            taps = ", ".join(dict.fromkeys(self.teachers))
            raise ValueError(f"distills entry {self.name!r} ({self.student} <- {taps}): {error}") from error

    def _weights_of_classes(
        self, of_task: Sequence[float] | None, classes: int | None, maps: bool
    ) -> Sequence[float] | None:
        """How much a position counts by its class; None for all alike.

        Raises:
            ValueError: that was asked for, and cannot be.
        """
        asked = self.class_weight
        if asked is None and self.auto is not None and "weight" in self.loss.needs and maps:
            return of_task
        if asked in (None, "equal"):
            return None
        if not maps:
            raise ValueError(f"class_weight={asked!r} weighs positions of maps (B, C, h, w); the tap yields none")
        if asked == "task":
            if of_task is None:
                raise ValueError("class_weight='task': the loss of the head has none; give a number for each class")
            return of_task
        if classes is not None and len(asked) != classes:
            raise ValueError(f"class_weight has {len(asked)} numbers, the head {classes} classes: give one for each")
        return asked

    def _sides(
        self,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        image_size: Size | None,
        truth: Sequence[Tensor] = (),
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Levels of the side that learns, and of the other; `truth` are those of the ground truth, where it is one."""
        mine, its = self.sigmoid
        student = [two_classes(level) for level in student] if mine else student
        given = iter(teachers)
        teachers = [truth if source == TRUTH else next(given) for source in self.sources]
        teachers = [[self._of_teacher(level, flag) for level in levels] for levels, flag in zip(teachers, its)]
        teacher = join(student, teachers, image_size, self.how)
        return (teacher, student) if self.back else (student, teacher)

    def _with_heads(
        self, learner: Sequence[Tensor], guide: Sequence[Tensor], image_size: Size | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Build the heads, and return what they make of the levels of a probe."""
        if self.head is None:
            return learner, guide
        if len(guide) not in (1, len(learner)):
            raise ValueError(f"the tap of the head yields {len(learner)} tensors, the other side {len(guide)}")
        sigmoids = len(guide[0]) // len(learner[0])
        if sigmoids > 1 and self.head.label_loss:
            raise ValueError(f"a head with {sigmoids} sigmoids at each position has no loss on a label map")
        classes = sigmoids if sigmoids > 1 else width(guide[0]) // len(self.sources)
        with torch.no_grad():
            self.heads = nn.ModuleList(
                self.head.build(lay_out(s, t, image_size)[0], classes)
                for s, t in zip(learner, len(learner) * list(guide) if len(guide) == 1 else guide)
            )
            self.heads.eval()
            made = self._headed(learner, guide, image_size)
        self.heads.train()
        wanted = width(made[1][0])
        if self.loss.match in ("shape", "channels") and self.head.classes not in (None, wanted) and sigmoids == 1:
            raise ValueError(wrong_classes(self.head.classes, wanted))
        return made

    def _headed(
        self, learner: Sequence[Tensor], guide: Sequence[Tensor], image_size: Size | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """What the heads make of each level, beside what it is compared with."""
        if not self.heads:
            return learner, guide
        guide = len(learner) * list(guide) if len(guide) == 1 else guide
        pairs = [lay_out(s, t, image_size) for s, t in zip(learner, guide)]
        made = [head(s) for head, (s, _) in zip(self.heads, pairs)]
        made = [two_classes(z) if len(z) < len(t) else z for z, (_, t) in zip(made, pairs)]
        return made, [t for _, t in pairs]

    def _label_loss(self, logits: Tensor, context: LossInputs) -> Tensor:
        labels = context.gather(["labels"], tuple(logits.shape[2:]), None, len(logits)).get("labels")
        if labels is None:
            raise ValueError(
                f"distills entry {self.name!r}: label_loss of its head requires the class of each position, but this "
                f"batch has no {context.LABELS} for its tap: tap a map and give label maps, or leave label_loss out"
            )
        return label_loss(logits, labels, context.ignore_index)

    def _of_teacher(self, level: Tensor, sigmoid: bool) -> Tensor:
        single = sigmoid and level.shape[1] == 1
        level = two_classes(level) if single else level
        if self.class_map is not None:
            if max(self.class_map) >= width(level):
                raise ValueError(f"class_map must hold classes from 0 to {width(level) - 1}, got {self.class_map}")
            level = level[..., self.class_map] if level.ndim == 3 else level[:, self.class_map]
        return two_classes(level) if sigmoid and not single else level

    @property
    def categorical(self) -> bool:
        """Whether the loss, or one inside of it, takes a softmax over the channels."""
        parts = [part for part in self.loss.modules() if isinstance(part, kdlosses.Loss)]
        return any(
            getattr(getattr(part.loss, "ground", None), "over_classes", False)
            or getattr(part.loss, "categorical", False)  # a loss of one's own that is not registered
            for part in parts
        )

    @property
    def tau(self) -> float:
        """Temperature of the loss, or of one inside of it; 1 where none has any."""
        for part in self.loss.modules():
            if isinstance(part, kdlosses.Loss):
                plain = inspect.signature(type(part.loss) if isinstance(part.loss, nn.Module) else part.loss).parameters
                default = plain["tau"].default if "tau" in plain else None
                found = part.options.get("tau", getattr(part.loss, "tau", default))
                if isinstance(found, Real):
                    return float(found)
        return 1.0

    @property
    def _is_binary(self) -> bool:
        return self.sigmoid[0] or any(self.sigmoid[1])

    def _treat_as_binary(
        self,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        sigmoid: tuple[bool, Sequence[bool]],
    ) -> None:
        """Decide for which sides each channel is a binary problem."""
        mine, its = sigmoid[0], list(sigmoid[1])
        levels = [(student, mine), *zip(teachers, its)]
        several = [level.shape[1] for side, flag in levels if flag for level in side if level.shape[1] > 1]
        if several and self.how in LEARNED:  # such a map mixes the channels; alone they would not meet
            return
        unknown = {"label_map"} if self._assigned else {"labels", "label_map"}
        if several and unknown & {*self.loss.requires}:
            raise ValueError(
                f"the tap yields {max(several)} sigmoids at each position, for which a label map has no labels; loss "
                f"{self.loss.name!r} needs labels: use a loss without labels"
            )
        given = iter(its)
        self.sigmoid = mine, [mine if source == TRUTH else next(given) for source in self.sources]

    def _check_sides(self, learner: Sequence[Tensor], guide: Sequence[Tensor]) -> None:
        for s, t in zip(learner, guide):
            if self._is_binary and len(s) != len(t):
                raise ValueError(
                    f"{len(s)} and {len(t)} classes or anchors with a sigmoid each cannot be compared: give "
                    "class_map=[...], the teacher's class for each of the student's"
                )

    def _check_channels(self, channels: int) -> None:
        """Raise `ValueError` if the loss would be constant for so few channels."""
        names = {part.name for part in self.loss.modules() if isinstance(part, kdlosses.Loss)}
        if channels == 1 and self.categorical:
            raise ValueError(
                f"loss {self.loss.name!r} compares classes, the taps yield a single channel that is no sigmoid of a "
                "head: its softmax is always 1. Use a loss on features, such as 'mse'; for a head of unknown name that "
                "has one sigmoid, densekd.Distillation(..., classes=2)"
            )
        if channels == 1 and self.loss.categorical:
            raise ValueError(
                f"loss {self.loss.name!r} compares directions, a single channel has none but its sign: use 'mse'"
            )
        if channels == 2 and "std_kd" in names:
            raise ValueError("loss 'std_kd' needs three classes: two logits are always the same once standardised")

    def active(self, context: LossInputs) -> bool:
        """Whether the term can differ from 0 now, so that its teachers must run."""
        now = context.gather(self.loss.needs, ())
        unknown = [key for key in OF_A_RUN if key in self.loss.requires and key not in now]  # the loss will raise
        return bool(self.weight) and (bool(unknown) or self.loss.active(**now))

    def nothing(self, student: Sequence[Tensor]) -> Tensor:
        """Return 0 for a term that is off, with a gradient of 0 for what it would train: DDP waits for one."""
        taught = [*(x[:0] for x in student), *(weight.flatten()[:0] for weight in self.parameters())]
        return torch.stack([x.sum().float() for x in taught]).sum()

    def forward(
        self,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        context: LossInputs,
        logits: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sum the loss over the levels; `logits` are those of student and teacher, if the loss needs them."""
        truth = () if self.truth is None else self.truth(student, context)
        learner, guide = self._sides(student, teachers, context.image_size, truth)
        if (len(learner), len(guide)) != self.levels:
            raise RuntimeError(
                f"distills entry {self.name!r}: the taps yielded {len(learner)} (student) and {len(guide)} (teacher) "
                f"tensors, but {self.levels[0]} and {self.levels[1]} when training began"
            )
        told = {} if logits is None else dict(zip(LOGITS, reversed(logits) if self.back else logits))
        losses, weights = [], None
        if self.through is not None:
            learner, guide, weights = self.through(learner, guide)
        learner, guide = self._headed(learner, guide, context.image_size)
        pairs = self.adapt(learner, guide, context.image_size)
        every = []
        for level, (s, _) in enumerate(pairs):
            every.append(self._found(context, s, level, None if weights is None else weights[level]))
            self._check_labels(every[-1], context)
            if self.head is not None and self.head.label_loss:
                losses.append(self.head.label_loss * self._label_loss(s, context))
        if self.join:
            mine, its = zip(*pairs)
            pairs, every = [(_joined(mine), _joined(its))], [_joined_context(every)]
        losses += [self.loss(s, t, **found, **told) for (s, t), found in zip(pairs, every)]
        return self.weight * torch.stack(losses).sum()

    def _is_map(self, level: Tensor) -> bool:
        """Whether a level has positions in a plane, maybe with an axis of priors in front of them."""
        return level.ndim == 4 or (level.ndim == 5 and self.through is not None)

    def _found(self, context: LossInputs, student: Tensor, level: int, weight: Tensor | None) -> dict[str, Any]:
        """What the loss needs beside a level of the taps."""
        priors = self.through is not None and student.ndim == 5
        size = tuple(student.shape[3:] if priors else student.shape[2:])
        found = self._gathered(context, size, len(student), level)
        known = found.get("weight")
        if known is not None and known.ndim != student.ndim - 1:  # of locations or of priors, where those are not
            known = known.unsqueeze(1).expand(-1, student.shape[2], -1, -1) if priors else known.amax(1)
            found["weight"] = known
        if weight is not None:
            found["weight"] = weight if known is None else weight * known.to(weight.device)
        return self._for_each_class(found, student)

    def _gathered(self, context: LossInputs, size: tuple[int, ...], rows: int, level: int) -> dict[str, Any]:
        """What the loss needs beside the taps; the weight of positions, chosen and by class."""
        found = context.gather(self.loss.needs, size, self.where, rows, level, self.width)
        if self.truth is not None:
            told = context.told(size)
            self.truth.watch(told)
            found["weight"] = told if self.where is None else told * found["weight"].to(told.device)
        weight = None if self.by_class is None or len(size) != 2 else context.by_class(self.by_class, size)
        if weight is not None:
            found["weight"] = weight * found["weight"].to(weight.device) if "weight" in found else weight
        return found

    def _check_labels(self, found: Mapping[str, Any], context: LossInputs) -> None:
        """Raise `ValueError` where the loss reads the class of each position and the batch does not have it."""
        missing = [name for name in ("labels", "label_map") if name in self.loss.requires and name not in found]
        if missing:
            raise ValueError(
                f"distills entry {self.name!r}: loss {self.loss.name!r} requires {missing[0]!r}, the class of each "
                f"position, but this batch has no {context.LABELS} for its tap; boxes of a detector name no class of a "
                "position. Tap a map and give label maps, or take a loss that needs no labels"
            )

    def _for_each_class(self, found: dict[str, Any], student: Tensor) -> dict[str, Any]:
        """Repeat what belongs to an image for each of its sigmoids, and put the positions where the student is."""
        if self.where is not None:
            found["weight"] = found["weight"].to(student.device)  # those of a batch without labels are made anew
        if "labels" in found and found["labels"].ndim == student.ndim:  # of priors
            labels, classes = found["labels"], self._classes
            binary = self._is_binary
            found["labels"] = of_sigmoids(labels, len(student)) if binary else of_locations(labels, classes or 0)
        for key, value in found.items():
            if self._is_binary and isinstance(value, list | Tensor):
                times = len(student) // len(value)
                repeated = [each for each in value for _ in range(times)]
                found[key] = torch.stack(repeated) if isinstance(value, Tensor) else repeated
        return found


def _joined(levels: Sequence[Tensor]) -> Tensor:
    """Levels `(B, C, *)` as one row of positions `(B, C, P)`."""
    return torch.cat([each.flatten(2) for each in levels], 2)


def _joined_context(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found for each level, for all positions in one row: weights and labels `(B, P)`; the run's as they are.

    What only some levels have is left out.
    """
    names = [name for name in every[0] if name in JOINED and all(name in found for found in every)]
    each = {name: [found[name] for found in every] for name in names}
    return {
        name: torch.cat([one.flatten(1) for one in values], 1) if isinstance(values[0], Tensor) else values[0]
        for name, values in each.items()
    }


def width(tensor: Tensor) -> int:
    """Channels of a map `(B, C, h, w)`, of tokens `(B, N, C)` or of rows `(B, C)`."""
    return tensor.shape[2 if tensor.ndim == 3 else 1]


def two_classes(logits: Tensor) -> Tensor:
    r"""Two softmax logits for the logit of a sigmoid: $\mathrm{softmax}(0, z) = (1 - \sigma(z), \sigma(z))$.

    Args:
        logits: `(B, K, *)`, a sigmoid each.

    Returns:
        `(B K, 2, *)`, the classes of an image one after the other.

    >>> two_classes(torch.tensor([[[2.0]], [[3.0]]])).tolist()
    [[[0.0], [2.0]], [[0.0], [3.0]]]
    """
    return torch.stack([torch.zeros_like(logits), logits], dim=2).flatten(0, 1)


def _classes(name: str, class_map: Any) -> list[int]:
    """Class numbers as plain integers."""
    found: list[Any] = (
        list(class_map) if isinstance(class_map, Sequence | np.ndarray) and not isinstance(class_map, str) else []
    )
    if not found or not all(isinstance(k, Integral) and not isinstance(k, bool) and int(k) >= 0 for k in found):
        raise ValueError(
            f"distills entry {name!r}: class_map must list a class of the teacher, an integer from 0 on, for each of "
            f"the student's, got {class_map!r}"
        )
    return [int(k) for k in found]


def _class_weight(name: str, given: Any) -> Any:
    """Check `class_weight`, and return its numbers as plain floats."""
    if given is None or (isinstance(given, str) and given in ("task", "equal")):
        return given
    each = given.tolist() if isinstance(given, np.ndarray | Tensor) else given
    numbers = list(each) if isinstance(each, list | tuple) else []
    right = [isinstance(k, Real) and not isinstance(k, bool) and 0 <= float(k) < math.inf for k in numbers]
    if not all(right) or not any(numbers):
        raise ValueError(
            f"distills entry {name!r}: class_weight is 'task', 'equal', or a number of at least 0 for each class, not "
            f"all 0; got {given!r}"
        )
    return [float(each) for each in numbers]
