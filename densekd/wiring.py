"""What every distiller does with its teachers and entries: which taps are asked of whom, and the loss of a term."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from densekd.align.adapt import Size, as_map
from densekd.context import LossInputs, class_weight_of, classes_of
from densekd.taps.defaults import is_segmenter, sigmoid_logits
from densekd.teacher import Peer, Teacher
from densekd.term import Term, two_classes, width
from kdlosses.auto_weight import AutoWeight, Task
from kdlosses.diagnosis import Diagnosis
from kdlosses.truth import TRUTH


class Levels(Protocol):
    """What was read at each tap: `Taps` of a forward, or a dict."""

    def __getitem__(self, tap: str, /) -> Sequence[Tensor]: ...


def parse_entries(distills: Any, balance: Any = None) -> list[Term]:
    """Build the terms of the entries.

    Args:
        distills: the entries.
        balance: `'auto'`, or a dict as `kdlosses.auto_weight.AutoWeight` takes it: all entries that teach the student
            are weighed by their gradients, each with an equal share of the ratio, in place of their own weights, and
            their positions by class as the task weighs them, see `class_weight` of `densekd.term.Term`.

    Raises:
        TypeError, ValueError, KeyError: an entry is wrong, or two have one name.
    """
    if not isinstance(distills, list | tuple):
        raise TypeError(f"distills must be a list of entries, got {distills!r}")
    terms = [Term.parse(entry) for entry in distills]
    if balance is not None:
        auto = AutoWeight.parse(balance)
        if auto is None:
            raise ValueError(
                f"balance must be None, 'auto', or dict(type='auto', ratio=..., steps=...), got {balance!r}"
            )
        weighed = [term for term in terms if term.weight and not term.back]
        for term in weighed:
            term.weight, term.auto = 1.0, AutoWeight(auto.ratio / len(weighed), len(auto.ratios))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two distills entries are called {name!r}; give them a name=... of their own")
    return terms


def check_task_weight(value: Any, terms: Sequence[Term] = ()) -> None:
    """Raise `ValueError` if the weight of the task is none, or is 0 where an entry is measured beside the task."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise ValueError(f"task_weight must be a finite number of at least 0, got {value!r}")
    measured = [term.name for term in terms if term.auto is not None]
    if measured and not value:
        raise ValueError(
            f"distills entry {measured[0]!r}: weight 'auto' is measured beside the task, whose task_weight is 0: "
            "give a number"
        )


def single(levels: Sequence[Tensor]) -> bool:
    """Whether each level has one channel."""
    return all(level.ndim > 1 and level.shape[1] == 1 for level in levels)


class Wiring:
    """A student with its teachers by name.

    Attributes:
        teachers: by name.
    """

    teachers: dict[str, Teacher]
    _logit_taps: dict[str, str]  # of the teachers, where an entry needs logits beside its own taps
    _own_logit_tap: str

    def _assigns(self, tap: str) -> bool:
        """Whether the student is a detector that says which labels it assigns to the priors that a tap yields."""
        return False

    def _asks(self, term: Term) -> list[tuple[str, str]]:
        """Teachers of a term, each with its tap."""
        named = [source for source in term.sources if source != TRUTH]
        names = list(self.teachers) if named == [None] and len(self.teachers) == 1 else named
        for name in names:
            if name not in self.teachers:
                raise ValueError(
                    f"distills entry {term.name!r}: source must name a teacher, one of {', '.join(self.teachers)}; "
                    f"got {name!r}"
                )
        return list(zip(names, term.teachers))

    def _taps_of(self, teacher: str, terms: Iterable[Term]) -> set[str]:
        asking = [(term, tap) for term in terms for name, tap in self._asks(term) if name == teacher]
        told = {self._logit_taps[teacher] for term, _ in asking if term.asks_logits}
        return told.union(tap for _, tap in asking)

    def _own_taps(self, terms: Sequence[Term]) -> set[str]:
        told = {self._own_logit_tap for term in terms if term.asks_logits}
        return told.union(term.student for term in terms)

    @property
    def _learner(self) -> nn.Module:
        """The student, whose taps are read."""
        raise NotImplementedError  # of a subclass; an ABC has a layout that a student's class cannot be changed to

    def _fit(
        self,
        term: Term,
        student: Sequence[Tensor],
        each: Sequence[Sequence[Tensor]],
        size: Size | None,
        logits: str | None,
    ) -> None:
        """Check a term and build its parts from what a probe read; `logits` is the default tap of the student's."""
        binary = (
            self._sigmoid(self._learner, term.student, student),
            [
                self._sigmoid(self.teachers[name].model, tap, levels)
                for (name, tap), levels in zip(self._asks(term), each)
            ],
        )
        if not term.back and term.student == logits and (term.head is not None or term.loss.middle):
            what = "its head" if term.head is not None else f"loss {term.loss.name!r}"
            raise ValueError(
                f"distills entry {term.name!r}: {what} stands on a middle layer, but the tap {logits!r} yields the "
                "logits: tap a layer before them, such as their input '" + f"{logits}:in'"
            )
        if term.class_map is not None:
            self._check_class_map(term, student, each, binary)
        elif (
            term.head is None
            and term.student == logits
            and (len(each) > 1 or (term.loss.match == "shape" and term.how == "auto"))
        ):
            pairs = [(student[0], binary[0]), *((levels[0], flag) for levels, flag in zip(each, binary[1]))]
            mine_classes, *its = [2 if flag and term.categorical else width(level) for level, flag in pairs]
            self._check_classes(term.name, mine_classes, its)
        if term.back and not all(isinstance(self.teachers[name], Peer) for name, _ in self._asks(term)):
            raise ValueError(f"distills entry {term.name!r}: back=True trains the teacher: list it in online=[...]")
        of_task = class_weight_of(self._learner, term.student)
        term.fit(student, each, size, *self._classes(term.student), binary, of_task, self._assigns(term.student))

    def _sigmoid(self, model: nn.Module, tap: str, levels: Sequence[Tensor]) -> bool:
        """Whether the channels that a tap yielded are logits of sigmoids."""
        return sigmoid_logits(model, tap, 1 if single(levels) else None)

    def _classes(self, tap: str) -> tuple[int | None, int | None]:
        """Classes of the student's head around a tap, and the label that does not count."""
        return classes_of(self._learner, tap)

    def _check_class_map(
        self,
        term: Term,
        student: Sequence[Tensor],
        teachers: Sequence[Sequence[Tensor]],
        binary: tuple[bool, Sequence[bool]],
    ) -> None:
        """Raise `ValueError` if `class_map` is used on features, or has not one entry for each class of the student."""
        assert term.class_map is not None
        for (name, tap), levels in zip(self._asks(term), teachers):
            model = self.teachers[name].model
            classes = classes_of(model, tap)[0] if is_segmenter(model) else None
            channels = width(levels[0])
            of_features = tap.startswith(("backbone", "neck")) or tap.endswith(":in")
            if of_features or (classes not in (None, channels) and channels != 1):
                raise ValueError(
                    f"distills entry {term.name!r}: class_map needs class logits of the teacher, but its tap {tap!r} "
                    f"yields a feature of {channels} channels: tap the logits"
                )
        mine = 2 if binary[0] and term.categorical and student[0].shape[1] == 1 else width(student[0])
        if len(term.class_map) != mine and not term.mixes:
            raise ValueError(
                f"distills entry {term.name!r}: the student has {mine} classes, but class_map has "
                f"{len(term.class_map)} entries: give one class of the teacher for each"
            )

    def _check_classes(self, entry: str, mine: int, theirs: Sequence[int]) -> None:
        if {mine, *theirs} != {mine}:
            raise ValueError(
                f"distills entry {entry!r}: the student has {mine} classes, the teacher {', '.join(map(str, theirs))}; "
                "logits of different classes cannot be compared: give class_map=[...], the teacher's class for each"
                + (", or adapt='conv1x1' to learn a map" if len(theirs) == 1 else "")
            )

    @property
    def _diagnosis(self) -> Diagnosis:
        if "diagnosis" not in vars(self):
            vars(self)["diagnosis"] = Diagnosis(self._tell)
        return vars(self)["diagnosis"]

    def _tell(self, message: str) -> None:
        warnings.warn(message, stacklevel=2)

    def _note(self, name: str, value: Tensor | float) -> None:
        """Take a scalar of the training."""

    def _weighed(self, term: Term, loss: Tensor, levels: Sequence[Tensor], task: Task | None, look: bool) -> Tensor:
        """The loss of a term times the weight that is measured, if it is; what its gradients tell.

        Args:
            term: the term.
            loss: its loss.
            levels: the student's tensors at its tap, as the student made them.
            task: of the student, in training.
            look: whether this step is one that is looked at.
        """
        auto = term.auto
        if task is not None and (look or (auto is not None and auto.measuring)):
            self._compare(term, loss, levels, task, look)
        return loss if auto is None else auto.weight.to(loss) * loss

    def _compare(self, term: Term, loss: Tensor, levels: Sequence[Tensor], task: Task, look: bool) -> None:
        """Compare the gradient of a term with the task's: measure its weight, and tell what is wrong."""
        auto = term.auto
        measuring = auto is not None and auto.measuring
        try:
            pull = task.pull(loss, term.student, levels)
        except RuntimeError as error:
            if measuring:
                raise RuntimeError(
                    f"distills entry {term.name!r}: weight 'auto' takes gradients in the forward pass, which this "
                    "model does not allow (activation checkpointing needs use_reentrant=False; compile after the "
                    f"weight is known, or give a number): {error}"
                ) from error
            pull = None
        if auto is not None and measuring:
            auto.measure(pull)
            self._diagnosis.weighed(term.name, auto.weight.item())
            self._note(f"weight_{term.name}", auto.weight)
        if look and pull is not None and pull.task > 0 and pull.task.isfinite():
            factor = 1.0 if auto is None else auto.weight.item()
            ratio, cosine = factor * (pull.term / pull.task).item(), pull.cosine.item()
            if math.isfinite(ratio) and math.isfinite(cosine):  # else half precision overflowed: it says nothing
                self._diagnosis.gradients(term.name, ratio, cosine, factor * term.weight, auto is not None)
                self._note(f"ratio_{term.name}", ratio)
                self._note(f"cosine_{term.name}", cosine)

    def _look_at(self, term: Term, student: Levels, seen: Mapping[str, Levels], context: LossInputs) -> None:
        """Tell what the tensors of a term show: zeros, a softmax that is one-hot, a teacher that knows less."""
        mine, asked = student[term.student], self._asks(term)
        self._diagnosis.zeros(term.name, "student", term.student, mine)
        for name, tap in asked:
            self._diagnosis.zeros(term.name, f"teacher {name!r}", tap, seen[name][tap])
        if TRUTH in term.sources:
            return
        its = seen[asked[0][0]][asked[0][1]]
        if (
            not term.categorical
            or len(asked) > 1
            or len(its) != 1
            or any(each.ndim not in (2, 4) for each in (*mine, *its))
        ):
            return
        if min(width(mine[0]), width(its[0])) < 2:
            return
        self._diagnosis.softmax(term.name, its[0], term.tau)
        classes = self._classes(term.student)[0]
        if (
            term.class_map is None
            and not term.back
            and term.head is None
            and width(mine[0]) == width(its[0]) == classes
        ):
            own, other = _agreement(mine[0], context), _agreement(its[0], context)
            if own is not None and other is not None:
                self._diagnosis.agreement(term.name, own, other)

    def _loss(self, term: Term, student: Levels, seen: Mapping[str, Levels], context: LossInputs) -> Tensor:
        theirs = [seen[name][tap] for name, tap in self._asks(term)]
        loss = term(student[term.student], theirs, context, self._logits(term, student, seen, context.image_size))
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise RuntimeError(
                f"distills entry {term.name!r} has no effect: its loss {term.loss.name!r} carries no gradient; "
                "it must not detach the student, nor turn it into numbers of Python or NumPy"
            )
        if not torch.isfinite(loss):
            for name, tap in self._asks(term):
                self._check_finite(name, tap, seen[name][tap])  # else it is the student's, which loss scaling may mend
        return loss

    def _logits(
        self, term: Term, student: Levels, seen: Mapping[str, Levels], size: Size | None
    ) -> tuple[Tensor, Tensor] | None:
        """Class logits of student and teacher, for a loss on other taps; the learning side's have their gradient."""
        if not term.asks_logits:
            return None
        ((name, _),) = self._asks(term)
        mine, theirs = student[self._own_logit_tap], seen[name][self._logit_taps[name]]
        sides = (self._learner, self._own_logit_tap, mine), (self.teachers[name].model, self._logit_taps[name], theirs)
        both = [
            two_classes(levels[0]) if levels[0].shape[1] == 1 and self._sigmoid(model, tap, levels) else levels[0]
            for model, tap, levels in sides
        ]
        maps = [as_map(each, size) if each.ndim == 3 and size is not None else each for each in both]
        own, other = (each.float() for each in maps)
        return (own.detach(), other) if term.back else (own, other.detach())

    def _check_gradient(self, term: Term, tensors: Sequence[Tensor]) -> None:
        if torch.is_grad_enabled() and term.weight and not any(tensor.requires_grad for tensor in tensors):
            raise RuntimeError(
                f"distills entry {term.name!r} has no effect: tap {term.student!r} carries no gradient "
                "(a frozen stage, a part under torch.no_grad or activation checkpointing, a detached output); tap a "
                "module that is trained"
            )

    def _check_finite(self, teacher: str, tap: str, tensors: Iterable[Tensor]) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in tensors):
            raise FloatingPointError(f"teacher {teacher!r} yields NaN or infinity at tap {tap!r}")


def divided(model: nn.Module) -> bool:
    """Whether processes share the weights of some module, as FSDP and ZeRO do: its backward pass must be one."""
    return any(
        hasattr(each, "_fsdp_wrapped_module") or hasattr(each, "_get_fsdp_state") for each in model.modules()
    ) or (any(hasattr(each, "ds_id") for each in model.parameters()))


def _agreement(logits: Tensor, context: LossInputs) -> float | None:
    """Share of the labelled positions at which the largest logit is the label's."""
    labels = context.gather(["labels"], tuple(logits.shape[2:]), None, len(logits)).get("labels")
    if labels is None or labels.shape != logits[:, 0].shape:
        return None
    valid = labels != context.ignore_index
    hits = (logits.detach().argmax(1) == labels) & valid
    return (hits.sum() / valid.sum()).item() if valid.any() else None
