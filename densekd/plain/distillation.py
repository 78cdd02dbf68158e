"""Distillation of any live PyTorch model, for a training loop of one's own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from densekd.align.adapt import Size, as_map
from densekd.methods import ONLINE, Method, method_entries, name_of
from densekd.plain.given import Given, image_size
from densekd.taps.defaults import default_taps
from densekd.taps.defaults import tap as default_tap
from densekd.taps.families import patch_of
from densekd.taps.reader import Taps, at_rest, never_fired
from densekd.teacher import OF_THE_STUDENT, MovingAverage, Teacher
from densekd.wiring import Wiring, parse_entries, single
from kdlosses.auto_weight import Task, uncompiled
from kdlosses.reduce import check_rows, over_processes
from kdlosses.truth import check_names

Convert = Callable[..., Any]
Call = tuple[tuple[Any, ...], dict[str, Any]]
Seen = Mapping[str, list[Tensor]]


class Distillation(Wiring, nn.Module):
    r"""A student with its teachers: it runs both, and returns the student's output beside the distillation losses.

    $$ L = L_\mathrm{task} + \sum_k w_k L_k $$

    The task loss is the caller's; the losses of the entries, times their weights, are here.

    Models may be of any library and have any arguments. Each forward runs the teachers, frozen and without gradients,
    no further than their last tap, then the student in its own mode. A teacher that no entry uses in this step, because
    of its weight or schedule, does not run. In evaluation mode it measures the same losses; to predict, call `student`.

    It is a module of two parts: `student`, the model itself, whose `state_dict` is the plain one, and `connectors`,
    what entries have learned to align taps. Optimise `parameters()` of the whole; save `student`, and for a resumed run
    the whole. Teachers are in neither, nor is a moving average, which a resumed run begins with the student's weights;
    they follow `to(device)`, and are on the student's device from the start.

    Args:
        student: the model that learns.
        teacher: a trained model, which is frozen; `'ema'` for the student's own moving average; `'past'` for what it
            was before, see `densekd.policies.Snapshots`; or a dict of several, by name.
        distills: entries, see `densekd.term.Term`; taps are paths of modules, see `densekd.Taps`.
        method: name of a method instead of `distills`, see `densekd.methods`, or a dict with the name as `type` and
            options.
        example: arguments of the student, on which connectors are built: a tensor, a tuple, or a dict of keywords.
            Without it the first batch builds them, and an optimiser that was made before lacks their parameters.
        convert: function of the student's arguments that returns the teacher's, a tensor, a tuple or a dict of
            keywords, where they differ; a dict of functions by name for several teachers.
        momentum: of the moving average, see `densekd.teacher.MovingAverage`.
        ignore_index: label that does not count; that of transformers' config, or 255, if not given.
        classes: number of classes, for losses that need it and a model whose head is unknown. A single channel under a
            loss that compares classes is then the logit of a sigmoid if there are two; that of a known head always is.
        balance: `'auto'` weighs the entries by their gradients in place of their own weights, see
            `densekd.wiring.parse_entries`.

    Raises:
        TypeError, ValueError, KeyError: a wrong entry, a tap that does not exist, never fires or carries no gradient,
            shapes that cannot be aligned, a student without a trainable parameter, a teacher that shares parameters
            with it.
        FloatingPointError: a teacher yields NaN or infinity.

    Example:
        >>> import torch
        >>> def net(width):
        ...     return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 5, 1))
        >>> images, labels = torch.rand(2, 3, 16, 16), torch.randint(5, (2, 14, 14))
        >>> entries = [dict(loss="kl", student="2"), dict(loss="mse", student="1")]
        >>> distillation = Distillation(net(4), net(8), entries, example=images)
        >>> output, losses = distillation(images, context=dict(labels=labels))
        >>> (nn.functional.cross_entropy(output, labels) + sum(losses.values())).backward()
        >>> list(losses), len(list(distillation.connectors.parameters()))
        (['kl', 'mse'], 2)
    """

    teachers: dict[str, Teacher]

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | str | Mapping[str, nn.Module | str],
        distills: Sequence[Mapping[str, Any]] | None = None,
        *,
        method: Method | None = None,
        example: Any = None,
        convert: Convert | Mapping[str, Convert] | None = None,
        momentum: float = 0.999,
        ignore_index: int | None = None,
        classes: int | None = None,
        balance: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if (distills is None) == (method is None):
            raise ValueError("give either distills=[...] or method='...'")
        check_student(student)
        self.student = student
        self.connectors = nn.ModuleDict()
        self.ignore_index, self.classes = ignore_index, classes
        self.teachers = self._find(teacher, momentum)
        self._convert = convert if isinstance(convert, Mapping) else dict.fromkeys(self.teachers, convert)
        for name in self._convert:
            if name not in self.teachers:
                raise ValueError(f"convert names the teacher {name!r}; there is {', '.join(map(repr, self.teachers))}")
            if self._convert[name] is not None and not callable(self._convert[name]):
                raise TypeError(f"convert must be a function of the student's arguments, got {self._convert[name]!r}")
        if method is not None:
            if name_of(method) in ONLINE:
                raise ValueError(f"method {name_of(method)!r} trains its teachers, which densekd.Distiller alone does")
            distills = method_entries(method, self._learner, {name: t.model for name, t in self.teachers.items()})
        with torch.random.fork_rng(devices=[]):  # a loop draws the same numbers as without a teacher
            self._terms = parse_entries(distills, balance)
        for term in self._terms:
            if term.back:
                raise ValueError(f"distills entry {term.name!r}: back=True trains the teacher; it is frozen here")
        self._check_taps()
        if example is not None:
            args, kwargs = _call(example)
            self.connect(*args, **kwargs)

    @property
    def _learner(self) -> nn.Module:
        """The student without what wraps it, such as DDP."""
        model: Any = self.student
        while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) or hasattr(model, "_orig_mod"):
            model = getattr(model, "_orig_mod", None) or model.module
        return model

    def _find(self, source: Any, momentum: float) -> dict[str, Teacher]:
        sources = dict(source) if isinstance(source, Mapping) else {"teacher": source}
        if not sources:
            raise ValueError("teacher={} names no teacher; give a module, 'ema', or a dict of them")
        check_names(sources)
        mine = {id(each) for each in self.student.parameters()}
        teachers: dict[str, Teacher] = {}
        for name, model in sources.items():
            if isinstance(model, str) and model in OF_THE_STUDENT:
                options = (momentum,) if model == "ema" else ()
                teachers[name] = OF_THE_STUDENT[model](name, copy.deepcopy(self._learner), *options)
                continue
            if not isinstance(model, nn.Module):
                raise TypeError(f"teacher {name!r} must be a torch.nn.Module, 'ema' or 'past', got {model!r}")
            shared = sum(id(each) in mine for each in model.parameters())
            if shared:
                raise ValueError(
                    f"teacher {name!r} shares {shared} parameters with the student, which would be frozen: give a "
                    "copy.deepcopy of it, or 'ema' for the student's moving average"
                )
            teachers[name] = Teacher(name, model)
        for each in teachers.values():
            if not hasattr(each.model, "hf_device_map"):  # one that is spread over devices stays there
                each.model.to(next(self.student.parameters()).device)
        return teachers

    def _check_taps(self) -> None:
        """Find all modules that are tapped."""
        asking = {name for term in self._terms if term.asks_logits for name, _ in self._asks(term)}
        self._logit_taps = {name: default_tap(self.teachers[name].model, "logits") for name in asking}
        self._own_logit_tap = default_tap(self._learner, "logits") if asking else ""
        Taps(self._learner, self._own_taps(self._terms))
        for name, teacher in self.teachers.items():
            taps = self._taps_of(name, self._terms)
            if not taps:
                raise ValueError(f"no distills entry uses teacher {name!r}: name it as source=, or remove it")
            Taps(teacher.model, taps)

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Build the connectors on a batch, arguments as of the student; no model changes.

        Raises:
            ValueError: a tap that never fires or carries no gradient, shapes that cannot be aligned.
        """
        size = image_size(args, kwargs)
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), at_rest(self.student):
            mine = self._read(self._learner, self._own_taps(self._terms), args, kwargs)
        for term in self._terms:
            self._check_gradient(term, mine[term.student])
        mine = {tap: [level.detach() for level in levels] for tap, levels in mine.items()}
        self._counts: dict[str, dict[str, int]] = {}
        theirs, sizes = {}, {"": size}
        for name, teacher in self.teachers.items():
            given = self._inputs(name, args, kwargs)
            with torch.no_grad():
                seen = self._read(teacher.model, self._taps_of(name, self._terms), *given)
            for tap, levels in seen.items():
                self._check_finite(name, tap, levels)
            theirs[name], sizes[name] = seen, image_size(*given)
            self._counts[name] = {tap: len(levels) for tap, levels in seen.items()}
        self._as_maps = self._which_are_maps(mine, theirs, sizes)
        mine = self._laid_out("", mine, size)
        theirs = {name: self._laid_out(name, seen, sizes[name]) for name, seen in theirs.items()}
        self._ignored = self._classes("")[1]
        logits = default_taps(self._learner).get("logits")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for term in self._terms:
                each = [theirs[name][tap] for name, tap in self._asks(term)]
                self._fit(term, mine[term.student], each, size, logits)
        connectors = nn.ModuleDict({term.name: term for term in self._terms})
        self.connectors = connectors.to(next(self.student.parameters()).device)

    def _sigmoid(self, model: nn.Module, tap: str, levels: Sequence[Tensor]) -> bool:
        return (self.classes == 2 and single(levels)) or super()._sigmoid(model, tap, levels)

    def _classes(self, tap: str) -> tuple[int | None, int | None]:
        classes, ignored = super()._classes(tap)
        return self.classes or classes, ignored if self.ignore_index is None else self.ignore_index

    def _read(self, model: nn.Module, specs: Iterable[str], args: Any, kwargs: Any) -> Seen:
        """Run a model once; the error for a tap that never fires names modules that do."""
        with Taps(model, specs) as taps:
            model(*args, **kwargs)
        silent = taps.silent()
        if silent:
            names = [name for name, _ in model.named_modules() if name]
            with torch.no_grad(), Taps(model, names, tensors=False) as every:
                model(*args, **kwargs)
            quiet = set(every.silent())
            raise ValueError(never_fired(model, silent[0], [name for name in names if name not in quiet]))
        return {spec: taps[spec] for spec in taps.specs}

    def _which_are_maps(
        self, mine: Seen, theirs: Mapping[str, Seen], sizes: Mapping[str, Size | None]
    ) -> dict[tuple[str, str], Size]:
        """Taps of tokens that meet maps, or other tokens, with the size of a patch: by teacher, '' for the student."""
        found = {}
        for term in self._terms:
            sides = [("", term.student, mine[term.student])]
            sides += [(name, tap, theirs[name][tap]) for name, tap in self._asks(term)]
            counts = {level.shape[1] if level.ndim == 3 else None for *_, levels in sides for level in levels}
            if term.how not in ("auto", "conv1x1", "tokens") or len(counts) == 1:
                continue
            for name, tap, levels in sides:
                patch = patch_of(self.teachers[name].model if name else self._learner)
                if patch and sizes[name] and any(level.ndim == 3 for level in levels):
                    found[name, tap] = patch
        return found

    def _laid_out(self, name: str, seen: Seen, size: Size | None) -> dict[str, list[Tensor]]:
        """Tokens as maps, where they shall be; `name` is that of the teacher, '' for the student."""
        found = dict(seen)
        for tap, levels in seen.items():
            patch = self._as_maps.get((name, tap))
            if patch and size:
                found[tap] = [as_map(level, size, patch) if level.ndim == 3 else level for level in levels]
        return found

    def _inputs(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        convert = self._convert.get(name)
        return (args, kwargs) if convert is None else _call(convert(*args, **kwargs))

    def forward(
        self,
        *args: Any,
        context: Mapping[str, Any] | None = None,
        task: Callable[[Any], Tensor] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Tensor]]:
        """Run the teachers and the student.

        Args:
            args: of the student.
            context: what losses may need beside the two models, see `densekd.plain.given.Given`: `labels`, `boxes`,
                `masks`, `progress`, ...
            task: function of the student's output that returns the loss of the task. With it gradients can be compared:
                an entry with weight 'auto' needs it, and what is wrong is told, see `kdlosses.diagnosis.Diagnosis`. It
                is called in those steps alone.
            kwargs: of the student.

        Returns:
            The student's output, unchanged, and the losses by the names of their entries, each times its weight; 0 for
            an entry that is off in this step.
        """
        if self.training and not torch.is_grad_enabled():
            raise RuntimeError(
                "a distillation in training mode runs under torch.no_grad(), so that nothing can be learned: call "
                "eval() first to measure losses, or distillation.student(...) to predict"
            )
        if not self.connectors:
            self._connect_late(*args, **kwargs)
        if task is not None and not callable(task):
            raise TypeError(
                "task must be a function of the student's output that returns the loss, such as "
                f"task=lambda output: cross_entropy(output, labels); got a {type(task).__name__}"
            )
        measuring = [term.name for term in self._terms if term.auto is not None and term.auto.measuring]
        if self.training and measuring and task is None:
            raise ValueError(
                f"distills entry {measuring[0]!r}: weight 'auto' is measured beside the task: call "
                "distillation(..., task=lambda output: loss)"
            )
        look = self.training and self._diagnosis.due()
        if task is not None and self.training and (look or measuring):
            return self._compared_losses(args, kwargs, context, look, task)
        return self._losses(args, kwargs, context, look, None)

    @uncompiled
    def _compared_losses(self, *given: Any) -> tuple[Any, dict[str, Tensor]]:
        """Output and losses of a step in which gradients are taken, which a compiled graph does not show."""
        return self._losses(*given)

    def _losses(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Mapping[str, Any] | None,
        look: bool,
        task: Callable[[Any], Tensor] | None,
    ) -> tuple[Any, dict[str, Tensor]]:
        size = image_size(args, kwargs)
        given = Given(context, size, self._ignored)
        for teacher in self.teachers.values():
            if isinstance(teacher, MovingAverage) and self.training:
                teacher.update(self._learner)
        active = [term for term in self._terms if term.active(given)]
        # teachers run first: their memory is free again when the student's graph grows
        asked = {name: self._taps_of(name, active) for name in self.teachers}
        seen = {name: self._teach(name, taps, args, kwargs) for name, taps in asked.items() if taps}
        with Taps(self._learner, self._own_taps(self._terms)) as taps:
            output = self.student(*args, **kwargs)
        mine = self._laid_out("", {tap: taps[tap] for tap in taps.specs}, size)
        losses = {}
        beside = None
        if task is not None:
            value = task(output)
            if not isinstance(value, Tensor) or value.ndim:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"task(output) must return a tensor without axes, got {got}")
            beside = Task(value, list(self._learner.parameters()))
        with over_processes() if self.training else nullcontext():
            for term in self._terms:
                levels = mine[term.student]
                self._check_gradient(term, levels)
                check_rows(f"distills entry {term.name!r}", levels)
                if term not in active:
                    losses[term.name] = term.nothing(levels)
                    continue
                loss = self._loss(term, mine, seen, given)
                losses[term.name] = self._weighed(term, loss, taps[term.student], beside, look)
                if look:
                    self._look_at(term, mine, seen, given)
        return output, losses

    @torch.no_grad()
    def _teach(self, name: str, specs: Iterable[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
        """Run a teacher, no further than the last of the taps."""
        args, kwargs = self._inputs(name, args, kwargs)
        model = self.teachers[name].model
        yields = {spec: self._counts[name][spec] for spec in specs}
        with Taps(model, yields, stop_after=yields) as taps:
            model(*args, **kwargs)
        return self._laid_out(name, {tap: taps[tap] for tap in yields}, image_size(args, kwargs))

    def _connect_late(self, *args: Any, **kwargs: Any) -> None:
        self.connect(*args, **kwargs)
        fresh = sum(each.numel() for each in self.connectors.parameters())
        if fresh:
            warnings.warn(
                f"the first batch made connectors of {fresh:,} parameters, which an optimiser built before does not "
                "train: give Distillation(..., example=...), or call connect(...) before the optimiser is built",
                stacklevel=4,
            )

    def train(self, mode: bool = True) -> Distillation:
        """Set the student's mode; teachers stay in evaluation mode."""
        super().train(mode)
        for teacher in self.teachers.values():
            teacher.model.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Distillation:
        for teacher in self.teachers.values():  # to another device or precision
            teacher.model._apply(fn, recurse)
        return super()._apply(fn, recurse)


def check_student(student: Any) -> None:
    """Raise `TypeError` or `ValueError` if a student is no module, or has nothing to train."""
    if not isinstance(student, nn.Module):
        raise TypeError(f"the student must be a torch.nn.Module, got {student!r}")
    if not any(each.requires_grad for each in student.parameters()):
        raise ValueError(
            f"the student, {type(student).__name__}, has no parameter that requires a gradient, so that it cannot "
            "learn: call student.requires_grad_(True), or exchange student and teacher"
        )


def _call(example: Any) -> Call:
    """Arguments as a call takes them: of a tensor, a tuple, or a dict of keywords."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, list | tuple) else (example,)), {}
