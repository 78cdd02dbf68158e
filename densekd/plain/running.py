"""A run of `densekd.fit`, as its policies see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from densekd.plain.batches import inputs, labels_of, moved
from densekd.plain.distillation import Distillation
from densekd.plain.given import images_of, with_images
from densekd.plain.scores import logits_of
from densekd.policies import Policy, Run, Seen
from densekd.policies.draws import Draws
from densekd.taps.defaults import tap as default_tap
from densekd.taps.reader import Taps, at_rest
from kdlosses.resized import labels_at


class PlainRun(Run):
    """What policies look at and change in a training by `densekd.fit`.

    Args:
        learner: a student, or a distillation.
        policies: of the run.
        data: the training data, or a `DataLoader` of them.
        batch_size: of data sets.
        epochs: passes over the data.
        seed: of the order of the data.
        task_weight: factor of the task's loss.
        ignore_index: label that does not count.
        device: where the models are.

    Raises:
        ValueError: a policy decides which samples are drawn, and the data are a `DataLoader`.
    """

    def __init__(
        self,
        learner: nn.Module,
        policies: Sequence[Policy],
        data: Any,
        batch_size: int,
        epochs: int,
        seed: int,
        task_weight: float,
        ignore_index: int,
        device: torch.device,
    ) -> None:
        self.learner, self.policies = learner, policies
        self.begun: list[Policy] = []
        self.student: nn.Module = learner.student if isinstance(learner, Distillation) else learner
        self.terms = learner._terms if isinstance(learner, Distillation) else []
        self.guides = learner.teachers if isinstance(learner, Distillation) else {}
        self.collate = data.collate_fn if isinstance(data, DataLoader) else default_collate
        self.data = data.dataset if isinstance(data, DataLoader) else data
        self.batch_size = (data.batch_size or 1) if isinstance(data, DataLoader) else min(batch_size, len(data))
        self.seed, self.task_weight, self.ignore_index, self.device = seed, task_weight, ignore_index, device
        self.draws: Draws | None = None
        drawing = [each.name for each in policies if each.draws]
        if drawing and isinstance(data, DataLoader):
            raise ValueError(
                f"policy {drawing[0]!r} decides which samples are drawn, but train= is a DataLoader, which does so "
                "itself: give the data set"
            )
        if drawing:
            whole = len(data) // self.batch_size * self.batch_size  # all batches of one size, as the steps are counted
            self.draws = Draws(len(data), whole, seed)
            self.loader: Any = DataLoader(data, self.batch_size, sampler=self.draws)
        else:
            self.loader = None
        self.epochs = epochs

    def start(self, loader: DataLoader) -> None:
        """Start the policies; `loader` is the run's own where they draw nothing."""
        self.loader = self.loader or loader
        self.steps = self.epochs * len(self.loader)
        for policy in self.policies:
            self.begun.append(policy)
            policy.start(self)

    def leave(self) -> None:
        """Have those policies leave that were to start."""
        for policy in self.begun:
            policy.leave(self)

    def before(self, step: int, batch: Any) -> None:
        """Have the policies act before a step."""
        self.step = step
        for policy in self.policies:
            policy.step(self, batch)

    def seen(self, batch: Any, teachers: Iterable[str] = (), through: bool = False) -> Seen:
        batch = moved(batch, self.device)
        args, kwargs = inputs(batch)
        student = logits_of(self.student(*args, **kwargs))
        with torch.set_grad_enabled(through and torch.is_grad_enabled()):
            told = {name: logits_of(self._told(name, args, kwargs)) for name in teachers}
        return self.met(student, told, labels_of(batch))

    def told(self, teacher: str, batch: Any, through: bool = False) -> tuple[Tensor, Tensor]:
        batch = moved(batch, self.device)
        with torch.set_grad_enabled(through and torch.is_grad_enabled()):
            found = logits_of(self._told(teacher, *inputs(batch)))
        return found, labels_at(labels_of(batch), found.shape[2:])

    def features(self, teacher: str, batch: Any) -> tuple[Tensor, Tensor]:
        batch = moved(batch, self.device)
        model = self.teachers[teacher]
        spec = default_tap(model, "features")
        with torch.no_grad(), Taps(model, [spec]) as taps:
            self._told(teacher, *inputs(batch))
        found = taps[spec][-1]
        return found, labels_at(labels_of(batch), found.shape[2:])

    def departure(self, batch: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        batch, learner = moved(batch, self.device), self.learner
        call, labels = inputs(batch), labels_of(batch)
        images = images_of(*call)
        if images is None or images.ndim != 4 or not isinstance(learner, Distillation):
            raise TypeError("a policy changes images (N, C, H, W) that student and teachers see, and there are none")
        epoch = self.step // len(self.loader)
        context = dict(labels=labels, progress=self.step / self.steps, epoch=epoch)

        def departs(others: Tensor) -> Tensor:
            args, kwargs = with_images(call, images, others)
            with at_rest(learner):
                return torch.stack([*learner._losses(args, kwargs, context, False, None)[1].values()]).sum()

        return images, departs

    def change_images(self, change: Callable[[Tensor], Tensor]) -> Any:
        def changed(learner: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            call = args, {key: value for key, value in kwargs.items() if key not in ("context", "task")}
            images = images_of(*call) if learner.training else None
            return None if images is None else with_images((args, kwargs), images, change(images))

        return self.learner.register_forward_pre_hook(changed, with_kwargs=True)

    def _told(self, teacher: str, args: Any, kwargs: Any) -> Any:
        """The output of a teacher for the arguments of the student."""
        learner: Any = self.learner
        args, kwargs = learner._inputs(teacher, args, kwargs)
        return self.teachers[teacher](*args, **kwargs)

    def undisturbed(self) -> AbstractContextManager[None]:
        return torch.random.fork_rng(devices=range(torch.cuda.device_count()))
