"""A distiller for any mmengine model: it adds distillation losses in training, and is the plain student otherwise."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub, print_log
from torch import Tensor, nn

from densekd.align.adapt import Size
from densekd.align.memory import Memory
from densekd.cache.teacher import cached
from densekd.context import OF_A_MAP, OF_AN_ASSIGNER, classes_of
from densekd.methods import ONLINE, Method, method_entries, name_of
from densekd.methods.queries import Matched
from densekd.mmlab.assigned import Assigned, assigns, has_anchors
from densekd.mmlab.building import Source, build_model, build_teacher, start_from
from densekd.mmlab.config import several_teachers
from densekd.mmlab.of_class import OfClass
from densekd.mmlab.probe import blank_sample, blank_size, channels, probe
from densekd.mmlab.proposals import Proposals, Rows
from densekd.mmlab.samples import Context, check_labels
from densekd.registry import MODELS
from densekd.sensors.batches import check_clouds, image_size
from densekd.taps.defaults import default_taps
from densekd.taps.defaults import tap as default_tap
from densekd.taps.reader import Taps
from densekd.taps.roi_heads import FEATURES, Place, kind_of, of_proposals, place_of
from densekd.teacher import OF_THE_STUDENT, MovingAverage, Peer, Teacher
from densekd.term import Term
from densekd.wiring import Levels, Wiring, check_task_weight, divided, parse_entries
from kdlosses.auto_weight import Task, uncompiled
from kdlosses.options import nearest
from kdlosses.reduce import check_rows, over_processes
from kdlosses.truth import check_names

Told = Mapping[tuple[str, Place, Place | None], Mapping[str, Sequence[Tensor]]]
"""By teacher, head of the student and head of the teacher: what that yields of the proposals at each of its taps."""


@MODELS.register_module()
class Distiller(Wiring, nn.Module):
    """The student of an mmengine config, with distillation losses from one or several teachers.

    The distiller *is* the student: its class is a subclass of this one and of the student's. Checkpoints, validation,
    test-time augmentation, EMA, parameter groups by name and hooks work as with the plain student, with the same names.
    Only `forward(mode='loss')` differs: it adds a term to the losses for each entry of `distills`. A teacher that no
    entry uses in this step, because of its weight or schedule, does not run. `state_dict` holds the student and, under
    `distill.`, learned connectors. Frozen teachers are in neither `state_dict` nor `parameters()`. Teachers that are
    `online` learn as well and are in both, under `distill.peers.`; their own losses are logged under `distill.<name>.`.

    Args:
        student: model config, config path, `pkg::path`, or a live module, which then becomes the distiller itself. The
            `load_from` of a whole config initialises the student.
        teacher: likewise; `'ema'` for the student's own moving average, `'past'` for what it was before, see
            `densekd.policies.Snapshots`; a network that others trained, such as
            `'hf:FOLDER_OR_NAME'`, see `densekd.hub.ready.features_of`; or a dict of several, by name. Its weights come
            from `checkpoint`; a live module keeps its own, as does one that others trained.
        distills: entries, see `densekd.term.Term`.
        method: name of a method instead of `distills`, see `densekd.methods`, or a dict with the name as `type` and
            options; those of `densekd.methods.ONLINE` make their teachers online.
        checkpoint: weights of the teacher, a dict by name for several; `'random'` for an untrained one.
        momentum: of the moving average, when the teacher is `'ema'`, see `densekd.teacher.MovingAverage`.
        online: names of teachers that are trained beside the student (a single one is called 'teacher'); without a
            checkpoint they start as their configs initialise them, see `densekd.teacher.Peer`.
        unsafe: allow checkpoints that need a full unpickling, which runs the code in them.
        teacher_cache: folder in which the outputs of frozen teachers are kept, so that they run once for each image, or
            `dict(path=..., topk=..., dtype=...)`, see `densekd.cache.teacher.CacheOptions`. It needs the hook
            `densekd.TeacherCache`, which `densekd.prepare` adds.
        balance: `'auto'` weighs the entries by their gradients in place of their own weights, see
            `densekd.wiring.parse_entries`.
        task_weight: factor of the student's own losses; at 0 the teachers alone teach.
        data_preprocessor: for the student, as mmengine hands it to any model.

    While it trains, a step in 25 is looked at, and what is wrong is logged once each, see
    `kdlosses.diagnosis.Diagnosis`; ratio and cosine of the gradients are scalars of the training,
    `distill.ratio_<name>` and `distill.cosine_<name>`, and so is a measured weight, `distill.weight_<name>`.

    Raises:
        TypeError, ValueError, KeyError, FileNotFoundError: a wrong entry, a tap that does not exist or never fires,
            shapes that cannot be aligned, a checkpoint of another architecture, a teacher that yields NaN.

    Example:
        >>> import torch
        >>> from mmengine.model import BaseModel
        >>> class Tiny(BaseModel):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.features, self.head = torch.nn.Conv2d(3, width, 3), torch.nn.Conv2d(width, 5, 1)
        ...     def forward(self, inputs, data_samples=None, mode="tensor"):
        ...         logits = self.head(self.features(inputs))
        ...         return {"loss_mean": logits.mean()} if mode == "loss" else logits
        >>> entries = [dict(loss="kl", student="head"), dict(loss="mse", student="features")]
        >>> model = Distiller(student=Tiny(4), teacher=Tiny(8), distills=entries)
        >>> list(model(torch.rand(2, 3, 16, 16), mode="loss"))
        ['loss_mean', 'distill.loss_kl', 'distill.loss_mse']
        >>> [key for key in model.state_dict() if key not in Tiny(4).state_dict()]
        ['distill.mse.adapt.0.project.weight', 'distill.mse.adapt.0.project.bias']
    """

    distill: nn.ModuleDict
    task_weight: float

    def __new__(
        cls, student: Source | None = None, *args: Any, data_preprocessor: Any = None, **kwargs: Any
    ) -> Distiller:
        if student is None:  # copy.deepcopy of a distiller, whose class is made already
            return super().__new__(cls)
        if cls is Distiller:
            known = inspect.signature(cls.__init__).parameters
            for key in kwargs:
                if key not in known:
                    raise TypeError(f"densekd.Distiller has no argument {key!r}; {nearest(key, [*known][1:])}")
        if not isinstance(kwargs.get("unsafe", False), bool):
            raise TypeError(f"unsafe must be True or False, got {kwargs['unsafe']!r}")
        if isinstance(student, Mapping) and data_preprocessor is not None:
            student = {"data_preprocessor": data_preprocessor, **student}
        model: Any
        model, load_from = build_model(student)
        if load_from is not None and not isinstance(student, nn.Module):
            start_from(model, load_from, kwargs.get("unsafe", False))
        kind = plain_class(model)
        model._modules.pop("distill", None)
        model.__class__ = type(f"Distilled{kind.__name__}", (cls, kind), {"__module__": kind.__module__})
        return model

    def __init__(
        self,
        student: Source,
        teacher: Source | Mapping[str, Source],
        distills: Sequence[Mapping[str, Any]] | None = None,
        *,
        method: Method | None = None,
        checkpoint: str | Path | Mapping[str, str | Path] | None = None,
        momentum: float = 0.999,
        online: Sequence[str] = (),
        unsafe: bool = False,
        teacher_cache: str | Path | Mapping[str, Any] | None = None,
        balance: str | Mapping[str, Any] | None = None,
        task_weight: float = 1.0,
        data_preprocessor: Any = None,
    ) -> None:
        if (distills is None) == (method is None):
            raise ValueError("give either distills=[...] or method='...'")
        check_task_weight(task_weight)
        self.task_weight = float(task_weight)
        for kept in ("diagnosis", "divided"):  # of an earlier distillation
            vars(self).pop(kept, None)
        with torch.random.fork_rng(devices=[]):  # the student must start as it would without a teacher
            learn = method is not None and name_of(method) in ONLINE
            self.teachers = self._find_teachers(teacher, checkpoint, momentum, None if learn else online, unsafe)
            if method is not None:
                models = {name: each.model for name, each in self.teachers.items()}
                distills = method_entries(method, self, models)
            terms = parse_entries(distills, balance)
            check_task_weight(task_weight, terms)
            probed, size = self._connect(terms)
        if teacher_cache is not None:
            if any(of_proposals(term.student) for term in terms):
                raise ValueError("teacher_cache keeps what a teacher says of images, not of the student's proposals")
            if any(isinstance(term.through, Matched | Memory) for term in terms):
                raise ValueError("teacher_cache keeps maps and tokens of images, not what method 'queries' reads")
            self.teachers = cached(self.teachers, probed, size, teacher_cache)
        parts: dict[str, nn.Module] = {term.name: term for term in terms}
        peers = {peer.name: peer.model for peer in self._peers()}
        if peers:
            parts["peers"] = nn.ModuleDict(peers)
        self.distill = nn.ModuleDict(parts).to(next(self.parameters()).device)

    @property
    def _learner(self) -> nn.Module:
        return self

    def _assigns(self, tap: str) -> bool:
        place = place_of(tap)
        return assigns(self) if place is None else place.part == "bbox" and kind_of(self, tap) != "boxes"

    def _classes(self, tap: str) -> tuple[int | None, int | None]:
        place = place_of(tap)
        if place is None:
            return super()._classes(tap)
        classes = place.head(self).num_classes
        return (classes + 1 if place.part == "bbox" else classes), None  # background is one of a softmax

    def _taps_of(self, teacher: str, terms: Iterable[Term]) -> set[str]:
        found = super()._taps_of(teacher, terms)
        return found | {FEATURES} if any(map(of_proposals, found)) else found

    def _find_teachers(
        self, source: Any, checkpoint: Any, momentum: float, online: Sequence[str] | None, unsafe: bool
    ) -> dict[str, Teacher]:
        sources = dict(source) if several_teachers(source) else {"teacher": source}
        if not sources:
            raise ValueError(
                "teacher={} names no teacher; give a config, its path, a live module, 'ema', or a dict of them"
            )
        for name in sources:
            if not isinstance(name, str):
                raise TypeError(f"teacher: the names of several teachers must be strings, got {name!r}")
        check_names(sources)
        weights = _weights_of(sources, checkpoint)
        if isinstance(momentum, bool) or not isinstance(momentum, Real) or not 0 <= momentum < 1:
            raise ValueError(f"momentum, of a teacher that is 'ema', must be a number in [0, 1), got {momentum!r}")
        learners = [
            name
            for name, each in sources.items()
            if each not in (*OF_THE_STUDENT,) and "." not in name and "loss" not in name
        ]
        online = learners if online is None else online
        if not isinstance(online, list | tuple | set) or not all(name in learners for name in online):
            raise ValueError(
                f"online={online!r} must list teachers, of {', '.join(sources)}; a moving average ('ema') cannot be "
                "online, and the name of an online teacher must not contain a dot or 'loss'"
            )
        teachers: dict[str, Teacher] = {}
        for name, each in sources.items():
            if each is self:
                raise ValueError(f"teacher {name!r} is the student itself; write 'ema' for its moving average")
            if isinstance(each, str) and each in OF_THE_STUDENT:
                options = (momentum,) if each == "ema" else ()
                teachers[name] = OF_THE_STUDENT[each](name, self._plain_copy(), *options)
            else:
                teachers[name] = build_teacher(name, each, weights.get(name), unsafe, name in online)
            teachers[name].model.to(next(self.parameters()).device)
        return teachers

    def _plain_copy(self) -> nn.Module:
        plain: Any = copy.deepcopy(self)
        plain.__class__ = plain_class(self)
        plain.__dict__.pop("teachers", None)  # of an earlier distillation
        return plain

    def _connect(self, terms: Sequence[Term]) -> tuple[dict[str, dict[str, list[Tensor]]], Size]:
        """Probe every tap with a blank image, build the modules that align them; what teachers yield for which size."""
        asking = {name for term in terms if term.asks_logits for name, _ in self._asks(term)}
        self._logit_taps = {name: default_tap(self.teachers[name].model, "logits") for name in asking}
        self._own_logit_tap = default_tap(self, "logits") if asking else ""
        asked = {name: (teacher.model, self._taps_of(name, terms)) for name, teacher in self.teachers.items()}
        own = self._own_taps(terms)
        size = blank_size([self, *(model for model, _ in asked.values())], [own, *(taps for _, taps in asked.values())])
        mine = probe(self, own, size)
        theirs = {name: probe(model, taps, size) for name, (model, taps) in asked.items()}
        for name, seen in theirs.items():
            if not seen:
                raise ValueError(f"no distills entry uses teacher {name!r}: name it as source=, or remove it")
            for tap, tensors in seen.items():
                self._check_finite(name, tap, tensors)
            self.teachers[name].configure(self, {tap: len(tensors) for tap, tensors in seen.items()})
            self._check_images(self.teachers[name], seen, size)
        logits = default_taps(self).get("logits")
        self._of_class: dict[str, OfClass] = {}
        for term in terms:
            student, each = mine[term.student], [theirs[name][tap] for name, tap in self._asks(term)]
            self._check_rows(term, student, each)
            if of_proposals(term.student):
                student, each = self._blank_rows(term, student, each)
            if term.where == "valuable" and not has_anchors(self):
                raise ValueError(
                    f"distills entry {term.name!r}: where='valuable' needs a detector of mmdet that assigns labels to "
                    f"anchors, such as GFL, ATSS or RetinaNet; {type(self).__name__} has none"
                )
            of_classes = kind_of(self, term.student) == "classes"
            self._fit(term, student, each, size, term.student if of_classes else logits)
        return theirs, size

    def _blank_rows(
        self, term: Term, student: Sequence[Tensor], teachers: Sequence[Sequence[Tensor]]
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """As many rows on each side, and of the one class that counts where a head tells of each, as in training."""
        (mine,), its = [_two_rows(level) for level in student], [_two_rows(level) for (level,) in teachers]
        if kind_of(self, term.student) in ("boxes", "masks"):
            asked = [(self.teachers[name].model, tap) for name, tap in self._asks(term)]
            try:
                chosen = self._of_class[term.name] = OfClass((self, term.student), asked, term.class_map)
            except ValueError as error:
                raise ValueError(f"distills entry {term.name!r}: {error}") from error
            term.class_map = None  # it has been used: what the loss sees is of one class
            mine, its = chosen(mine, its, torch.zeros(len(mine), dtype=torch.long, device=mine.device))
        return [mine], [[level] for level in its]

    def _check_images(self, teacher: Teacher, taps: Iterable[str], size: Size) -> None:
        """Raise `ValueError` if a teacher does not run on the student's images because their channels differ."""
        mine, its = channels(self, size), channels(teacher.model, size)
        if mine == its or mine is None or its is None:
            return
        parameter = next(self.parameters())
        image = torch.zeros(1, mine, *size, device=parameter.device, dtype=parameter.dtype)
        try:
            teacher.run(image, [blank_sample(self, size)], taps)
        except RuntimeError as error:  # of the first layer, or of the teacher's normalisation
            raise ValueError(
                f"the student's images have {mine} channels, those of teacher {teacher.name!r} {its}, but both run on "
                "the same batch: use a teacher for such images"
            ) from error

    def _check_rows(self, term: Term, student: Sequence[Tensor], teachers: Sequence[Sequence[Tensor]]) -> None:
        """Raise `ValueError` if rows are proposals of which the teacher cannot be asked: those of the sides differ."""
        teaching = [(self.teachers[name], tap) for name, tap in self._asks(term)]
        sides = [(self, term.student), *((teacher.model, tap) for teacher, tap in teaching)]
        places = [(model, place_of(tap)) for model, tap in sides]
        parts = {place and place.part for _, place in places}
        asked = all(place is not None and place.runs(model) is not None for model, place in places)
        if asked and len(parts) == 1 and not any(isinstance(teacher, Peer) for teacher, _ in teaching):
            for (_, tap), levels in zip(sides, (student, *teachers)):
                if len(levels) != 1:
                    raise ValueError(
                        f"distills entry {term.name!r}: tap {tap!r} yields {len(levels)} tensors for each proposal: "
                        f"tap one of them, '{tap}:0' or '{tap}:1'"
                    )
            _check_maps(term, student[0])
            return
        for tap, levels in ((term.student, student), *zip(term.teachers, teachers)):
            if "roi_head." in tap and any(len(level) != 1 for level in levels):
                raise ValueError(
                    f"distills entry {term.name!r}: tap {tap!r} yields a row for each proposal; student and teacher "
                    "have different proposals, so their rows cannot be compared: tap both in roi_head.bbox_head, or "
                    "both in roi_head.mask_head, an entry for each stage of a cascade, of detectors like Faster, "
                    "Cascade or Mask R-CNN with frozen teachers, or tap 'neck' or 'rpn_head.rpn_cls'"
                )

    def _terms(self) -> list[Term]:
        return [part for part in self.distill.values() if isinstance(part, Term)]

    def _peers(self) -> list[Peer]:
        return [teacher for teacher in self.teachers.values() if isinstance(teacher, Peer)]

    def _frozen(self) -> list[Teacher]:
        return [teacher for teacher in self.teachers.values() if not isinstance(teacher, Peer)]

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor", **kwargs: Any) -> Any:
        """Run the student; in `mode='loss'` run the teachers first, and add the distillation terms to its losses."""
        if mode != "loss":
            return super().forward(inputs, data_samples, mode=mode, **kwargs)
        learns = self.training and torch.is_grad_enabled()
        look = learns and self._diagnosis.due()
        if look or (learns and any(term.auto is not None and term.auto.measuring for term in self._terms())):
            return self._compared_losses(inputs, data_samples, look, kwargs)
        return self._losses(inputs, data_samples, False, kwargs)

    @uncompiled
    def _compared_losses(self, *given: Any) -> dict[str, Any]:
        """The losses of a step in which gradients are taken, which a compiled graph does not show."""
        return self._losses(*given)

    def _losses(self, inputs: Any, data_samples: Any, look: bool, kwargs: dict[str, Any]) -> dict[str, Any]:
        size = image_size(inputs)
        check_labels(self, data_samples or (), size)
        if isinstance(inputs, Mapping):
            check_clouds(inputs, data_samples)
        for teacher in self.teachers.values():
            if isinstance(teacher, MovingAverage) and self.training:
                teacher.update(self)
        voxels = inputs.get("voxels") if isinstance(inputs, Mapping) else None
        context = Context(data_samples or (), size, classes_of(self)[1], voxels)
        active = [term for term in self._terms() if term.active(context)]
        # teachers run first: their memory is free again when the student's graph grows
        asked = {name: self._taps_of(name, active) for name in self.teachers}
        learning = {peer.name for peer in self._peers()}
        rows = {name: {tap for tap in taps if of_proposals(tap)} for name, taps in asked.items()}
        seen: dict[str, Any] = {
            name: self.teachers[name].run(inputs, data_samples, taps - rows[name])
            for name, taps in asked.items()
            if taps or name in learning
        }
        reads = any("labels" in term.loss.needs or term.where in OF_AN_ASSIGNER for term in active)
        proposals = Proposals(self) if any(of_proposals(term.student) for term in self._terms()) else None
        assigned = Assigned(self) if reads and assigns(self) else None
        with Taps(self, self._own_taps(self._terms())) as student, proposals or assigned or nullcontext():
            losses = times(self.task_weight, super().forward(inputs, data_samples, mode="loss", **kwargs))
        told = {} if proposals is None else self._told(active, proposals, seen)
        task = self._task(losses) if self.training and torch.is_grad_enabled() else None
        with over_processes() if self.training else nullcontext():
            for term in self._terms():
                key = f"distill.loss_{term.name}"
                if key in losses:
                    raise KeyError(f"the student has a loss {key!r} of its own; rename the distills entry")
                own: Levels = student
                its: Mapping[str, Levels] = seen
                context.assigned = assigned
                if proposals is not None and of_proposals(term.student):
                    own, its, context.assigned = self._rows(term, student, told, proposals)
                mine = own[term.student]
                if not term.back:
                    self._check_gradient(term, mine)
                check_rows(f"distills entry {term.name!r}", mine if own is student else [x.flatten(1) for x in mine])
                if term not in active or (own is not student and not all(map(len, mine))):
                    losses[key] = term.nothing(mine)
                    continue
                loss = self._loss(term, own, its, context)
                made = student[term.student] if own is student else student[term.student][-1:]
                losses[key] = loss if term.back else self._weighed(term, loss, made, task, look)
                if look:
                    self._look_at(term, own, its, context)
        for peer in self._peers():
            losses.update({f"distill.{peer.name}.{key}": value for key, value in peer.losses.items()})
        return losses

    def _told(self, terms: Iterable[Term], proposals: Proposals, seen: Mapping[str, Levels]) -> Told:
        """What teachers say of the student's proposals; each head is asked once."""
        asked: dict[tuple[str, Place, Place | None], set[str]] = {}
        for term in terms:
            place = place_of(term.student)
            if place is not None and place in proposals.rois:
                for name, tap in self._asks(term):
                    asked.setdefault((name, place, place_of(tap)), set()).add(tap)
        return {
            (name, place, other): proposals.told(place, self.teachers[name].model, seen[name][FEATURES], taps)
            for (name, place, other), taps in asked.items()
        }

    def _rows(
        self, term: Term, student: Levels, told: Told, proposals: Proposals
    ) -> tuple[Levels, Mapping[str, Levels], Rows]:
        """Rows of both sides that an entry compares, and their labels; none of a stage that no proposal reaches.

        They are of the last call of the head: a sampler, such as OHEM's, may ask it before.
        """
        place, asks = place_of(term.student), self._asks(term)
        if place is None or place not in proposals.rois:
            learned = next(each for each in self.parameters() if each.requires_grad)
            return {term.student: [learned.flatten()[:0].unsqueeze(1)]}, {}, Rows(None)
        mine, labels = student[term.student][-1], proposals.rows(term.student)
        its = [level for name, tap in asks for level in told.get((name, place, place_of(tap)), {}).get(tap, ())]
        chosen = self._of_class.get(term.name)
        if chosen is not None and labels.labels is not None:
            mine, its = chosen(mine, its, labels.labels)
            labels = labels.of_objects()
        teachers: dict[str, dict[str, list[Tensor]]] = {name: {} for name, _ in asks}
        for (name, tap), level in zip(asks, its):
            teachers[name][tap] = [level]
        return {term.student: [mine]}, teachers, labels

    def _task(self, losses: Mapping[str, Any]) -> Task | None:
        """The student's own losses, where gradients can be taken in the forward pass."""
        if "divided" not in vars(self):
            vars(self)["divided"] = divided(self)
        alone = not any("loss" in name for name in losses)
        if not alone and not vars(self)["divided"]:
            return Task(total(losses), list(self.parameters()))
        for term in self._terms():
            if term.auto is not None and term.auto.measuring:
                raise ValueError(
                    f"distills entry {term.name!r}: weight 'auto' "
                    + (
                        "is measured beside the student's own losses, and it has none: give a number"
                        if alone
                        else "cannot be measured where processes share the weights of a module (FSDP, ZeRO): measure "
                        "it with DDP or one process, and give the number"
                    )
                )
        return None

    def _tell(self, message: str) -> None:
        print_log(message, logger="current", level=logging.WARNING)

    def _note(self, name: str, value: Tensor | float) -> None:
        MessageHub.get_current_instance().update_scalar(f"train/distill.{name}", value)

    def train(self, mode: bool = True) -> Distiller:
        """Set the student's mode; teachers stay in evaluation mode."""
        super().train(mode)
        for teacher in self._frozen():
            teacher.model.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Distiller:
        for teacher in self._frozen():  # to another device or precision
            teacher.move(fn, recurse)
        return super()._apply(fn, recurse)


def _check_maps(term: Term, level: Tensor) -> None:
    """Raise `ValueError` if an entry whose rows are maps of proposals reads what lies in the plane of an image."""
    if level.ndim != 4:
        return
    read = [f"where={term.where!r}"] if term.where is not None else []
    read += [f"class_weight={term.class_weight!r}"] if term.class_weight not in (None, "equal") else []
    read += [f"{name!r} of loss {term.loss.name!r}" for name in OF_A_MAP if name in term.loss.requires]
    if read:
        raise ValueError(
            f"distills entry {term.name!r}: {read[0]} is of positions of an image, but tap {term.student!r} yields a "
            "map for each proposal. where='objects' chooses proposals, and labels are theirs, at a tap of class logits"
        )


def _two_rows(level: Tensor) -> Tensor:
    """Two rows of a tap, of however many a probe has."""
    return torch.cat([level, level.new_zeros(2, *level.shape[1:])])[:2]


def total(losses: Mapping[str, Any]) -> Tensor:
    """Sum of the losses as mmengine sums them: all whose name contains 'loss', each in the mean."""
    parts = [part for name, loss in losses.items() if "loss" in name for part in _listed(loss)]
    return torch.stack([part.mean().float() for part in parts]).sum()


def times(factor: float, losses: Mapping[str, Any]) -> dict[str, Any]:
    """Losses times a factor; what is no loss by its name stays.

    >>> times(0.5, {"loss_a": torch.tensor(4.0), "loss_b": [torch.tensor(2.0)], "acc": 1.0})
    {'loss_a': tensor(2.), 'loss_b': [tensor(1.)], 'acc': 1.0}
    """
    if factor == 1:
        return dict(losses)
    scaled: dict[str, Any] = {}
    for name, loss in losses.items():
        several = [factor * each for each in _listed(loss)] if "loss" in name else []
        scaled[name] = (several if isinstance(loss, list | tuple) else several[0]) if "loss" in name else loss
    return scaled


def _listed(loss: Any) -> list[Tensor]:
    return list(loss) if isinstance(loss, list | tuple) else [loss]


def _weights_of(sources: Mapping[str, Any], checkpoint: Any) -> dict[str, Any]:
    """The file of each teacher that reads one."""
    of_the_student = [name for name, each in sources.items() if isinstance(each, str) and each in OF_THE_STUDENT]
    takers = [name for name in sources if name not in of_the_student]
    if isinstance(checkpoint, Mapping):
        for name in checkpoint:
            if name not in sources:
                raise ValueError(f"checkpoint names the teacher {name!r}; there is {', '.join(map(repr, sources))}")
            if name in of_the_student:
                raise ValueError(f"teacher {name!r} has the student's own weights: it takes no checkpoint")
        return dict(checkpoint)
    if checkpoint not in (None, "random") and not takers:
        raise ValueError(f"teacher {of_the_student[0]!r} has the student's own weights: it takes no checkpoint")
    if checkpoint not in (None, "random") and len(takers) > 1:
        raise ValueError(
            f"checkpoint={checkpoint!r} is of one teacher, and there are {', '.join(takers)}: "
            "checkpoint={name: path} names one for each"
        )
    return dict.fromkeys(takers, checkpoint)


def plain_class(model: nn.Module) -> type[nn.Module]:
    """Return the class that a model has, or had before it became a distiller."""
    kind = type(model)
    return kind.__bases__[1] if issubclass(kind, Distiller) else kind
