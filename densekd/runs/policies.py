"""The hook that has policies act in a run of OpenMMLab's models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn

from densekd.cache.teacher import CachedTeacher
from densekd.context import OF_AN_ASSIGNER, classes_of
from densekd.mmlab.assigned import assigns
from densekd.mmlab.distiller import Distiller
from densekd.mmlab.samples import Context
from densekd.policies import Policy, Run, Seen, build_policies
from densekd.policies.draws import Draws
from densekd.registry import HOOKS
from densekd.runs.resume import random_state, restore_random_state
from densekd.sensors.batches import image_size
from densekd.taps.defaults import sigmoid_logits
from densekd.taps.defaults import tap as default_tap
from densekd.taps.reader import Taps, at_rest
from densekd.taps.roi_heads import of_proposals
from densekd.term import two_classes


@HOOKS.register_module()
class Policies(Hook):
    """Have policies change the data, the weights or the student of a run, see `densekd.policies`.

        custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="pruned", keep=0.5)])]

    A student without a teacher, such as the control of a comparison, has those that need none. A checkpoint holds the
    finished student, and what a resumed run needs to go on from the one that is in training.

    Args:
        policies: what `densekd.policies.registry.build_policies` takes.
    """

    priority = "VERY_LOW"

    def __init__(self, policies: Sequence[Any]) -> None:
        self.policies = build_policies(policies)
        self._kept: dict[str, Any] | None = None
        self._optimiser: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(model, Distiller):
            for each in (each for each in self.policies if each.taught):
                print_log(f"policy {each.name!r} needs a teacher: this student has none, and goes without it")
            self.policies = [each for each in self.policies if not each.taught]
        finishing = [each.name for each in self.policies if type(each).finish is not Policy.finish]
        if finishing and any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError(
                f"policy {finishing[0]!r} changes the weights that are saved, and so does mmengine's EMAHook: remove it"
            )
        self.run = OpenMMLabRun(runner, model, any(each.draws for each in self.policies))
        names = [each.name for each in self.policies]
        if self._kept is not None and self._kept.get("names") != names:
            raise ValueError(
                f"the run to resume had the policies {self._kept.get('names', [])}, this config has {names}: train anew"
            )
        for policy in self.policies:
            policy.start(self.run)
        self._optimise_what_is_new(runner, model)
        if self._optimiser is not None:
            runner.optim_wrapper.load_state_dict(self._optimiser)
        if self._kept is not None:
            if self.run.draws is not None:
                self.run.draws.load(self._kept["draws"])
            for policy, state in zip(self.policies, self._kept["states"], strict=True):
                policy.load(state)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.run.step = runner.iter
        for policy in self.policies:
            policy.step(self.run, data_batch)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        draws = None if self.run.draws is None else self.run.draws.state()
        names, states = [each.name for each in self.policies], [each.state() for each in self.policies]
        checkpoint["policies"] = {"draws": draws, "names": names, "states": states}
        for policy in self.policies:
            checkpoint["state_dict"] = policy.saved(checkpoint["state_dict"])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint.pop("policies", {})
        if runner._resume:
            self._kept = kept
            self._optimiser = checkpoint.pop("optimizer", None)  # of parameters that `start` makes, too

    def after_train(self, runner: Runner) -> None:
        for policy in self.policies:
            policy.leave(self.run)
            policy.finish(self.run.student)

    @staticmethod
    def _optimise_what_is_new(runner: Runner, model: nn.Module) -> None:
        """Add parameters that a policy made to the optimiser's first group."""
        if not hasattr(runner.optim_wrapper, "optimizer"):  # several of them
            return
        groups = runner.optim_wrapper.optimizer.param_groups
        known = {id(each) for group in groups for each in group["params"]}
        groups[0]["params"] += [each for each in model.parameters() if each.requires_grad and id(each) not in known]


class OpenMMLabRun(Run):
    """What policies look at and change in a training by mmengine's runner.

    Args:
        runner: of the training.
        model: the student, with its teachers if it is a distiller.
        draws: whether a policy decides which samples are drawn: its sampler takes the place of the loader's.
    """

    def __init__(self, runner: Runner, model: nn.Module, draws: bool) -> None:
        self.student = model
        self.terms = model._terms() if isinstance(model, Distiller) else []
        self.guides = model.teachers if isinstance(model, Distiller) else {}
        loop: Any = runner.train_loop
        loader = loop.dataloader
        self.data, self.collate = loader.dataset, loader.collate_fn
        self.batch_size = (loader.batch_sampler.batch_size or 1) * get_world_size()
        self.steps, self.seed = loop.max_iters, runner.seed
        self.step, self.resumed = loop.iter, loop.iter > 0
        self.ignore_index = 255 if (ignored := classes_of(model)[1]) is None else ignored
        self.draws = None
        if draws:
            endless = isinstance(loop, IterBasedTrainLoop)
            length = None if endless else len(loader) * loader.batch_sampler.batch_size
            self.draws = Draws(len(self.data), length, self.seed, get_rank(), get_world_size())
            loader.batch_sampler.sampler = vars(loader)["sampler"] = self.draws  # the loader forbids the plain way

    @property
    def task_weight(self) -> float:
        return getattr(self.student, "task_weight", 1.0)

    @task_weight.setter
    def task_weight(self, value: float) -> None:
        self.student.task_weight = value  # type: ignore[assignment]

    def seen(self, batch: Any, teachers: Iterable[str] = (), through: bool = False) -> Seen:
        model: Any = self.student
        images, samples = self._ready(batch)
        spec = default_tap(model, "logits")
        with Taps(model, [spec]) as taps:
            model(images, samples, mode="tensor")
        student = _logits(model, spec, taps[spec])
        told = {name: self._said(name, images, samples, through) for name in teachers}
        return self.met(student, told, self._labels(images, samples, student))

    def told(self, teacher: str, batch: Any, through: bool = False) -> tuple[Tensor, Tensor]:
        images, samples = self._ready(batch)
        found = self._said(teacher, images, samples, through)
        return found, self._labels(images, samples, found)

    def features(self, teacher: str, batch: Any) -> tuple[Tensor, Tensor]:
        images, samples = self._ready(batch)
        spec = default_tap(self.teachers[teacher], "features")
        found = self._read(teacher, [spec], images, samples)[spec][-1]
        return found, self._labels(images, samples, found)

    def departure(self, batch: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        model: Any = self.student
        images, samples = self._ready(batch)
        if not isinstance(images, Tensor) or images.ndim != 4 or not isinstance(model, Distiller):
            raise TypeError("a policy changes images (N, C, H, W) that student and teachers see, and there are none")
        for term in self.terms:
            reads = term.where in OF_AN_ASSIGNER or "labels" in term.loss.needs
            if of_proposals(term.student) or (reads and assigns(model)):
                raise TypeError(
                    f"a policy changes images, and entry {term.name!r} reads proposals of a detector, or labels that "
                    "it assigns, which there are in the student's own step alone"
                )
        context = Context(samples, image_size(images), self.ignore_index)
        terms = [term for term in self.terms if term.active(context) and not term.back]

        def departs(others: Tensor) -> Tensor:
            asked = {name: model._taps_of(name, terms) for name in self.guides}
            seen = {name: self._read(name, taps, others, samples) for name, taps in asked.items() if taps}
            with Taps(model, model._own_taps(terms)) as student:
                model(others, samples, mode="tensor")
            mine = {tap: student[tap] for tap in student.specs}
            losses = [model._weighed(each, model._loss(each, mine, seen, context), (), None, False) for each in terms]
            return torch.stack(losses).sum() if losses else others.new_zeros(())

        return images, departs

    def change_images(self, change: Callable[[Tensor], Tensor]) -> Any:
        def changed(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            if not model.training or kwargs.get("mode") != "loss":
                return None
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "inputs": change(kwargs["inputs"])}

        return self.student.register_forward_pre_hook(changed, with_kwargs=True)

    def _ready(self, batch: Any) -> tuple[Any, Any]:
        """A batch as the preprocessor makes it of a copy: it pads the label maps of samples in place."""
        model: Any = self.student
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        return data["inputs"], data["data_samples"]

    def _labels(self, images: Any, samples: Any, maps: Tensor) -> Tensor:
        """Classes of the positions of maps."""
        labels = Context(samples, image_size(images), self.ignore_index).labels((maps.shape[2], maps.shape[3]))
        size = (len(maps), *maps.shape[2:])
        return maps.new_full(size, self.ignore_index, dtype=torch.long) if labels is None else labels

    def _said(self, name: str, images: Any, samples: Any, through: bool) -> Tensor:
        """The class logits of a teacher for the student's preprocessed batch."""
        teacher = self.teachers[name]
        spec = default_tap(teacher, "logits")
        return _logits(teacher, spec, self._read(name, [spec], images, samples, through)[spec])

    def _read(
        self, name: str, specs: Iterable[str], images: Any, samples: Any, through: bool = False
    ) -> dict[str, list[Tensor]]:
        """What a teacher yields at some taps for the student's preprocessed batch."""
        teacher = self.guides[name]
        if isinstance(teacher, CachedTeacher):
            raise ValueError(
                f"a policy asks teacher {name!r} itself, which has only its cache: train without teacher_cache"
            )
        graph = torch.set_grad_enabled(through and torch.is_grad_enabled())
        with graph, at_rest(teacher.model), Taps(teacher.model, specs) as taps:
            teacher.model(teacher._renormalise(images, samples), samples, mode="tensor")
        return {spec: taps[spec] for spec in taps.specs}

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        state = random_state()
        try:
            yield
        finally:
            restore_random_state(state)


def _logits(model: nn.Module, spec: str, levels: Sequence[Tensor]) -> Tensor:
    """Class logits of positions, of which there must be one map.

    Raises:
        ValueError: there are several, or rows of proposals.
    """
    if len(levels) != 1 or levels[0].ndim != 4:
        raise ValueError(
            f"a policy compares the class logits of pixels, {type(model).__name__} yields {len(levels)} tensors at "
            f"{spec!r}: it is for segmenters"
        )
    (level,) = levels
    return two_classes(level) if level.shape[1] == 1 and sigmoid_logits(model, spec, 1) else level
