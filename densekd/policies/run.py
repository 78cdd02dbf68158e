"""What a policy may look at and change: one training run, of a plain model or of OpenMMLab's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.context import weights_of
from densekd.policies.draws import Draws, domains_of
from densekd.teacher import Peer, Teacher
from kdlosses.reduce import labelled
from kdlosses.resized import labels_at, resized
from kdlosses.taps import at_rest


class Seen(NamedTuple):
    """What is said of a batch.

    Attributes:
        student: class logits `(N, C, *)`.
        teachers: likewise of the teachers that were asked, by name.
        labels: classes `(N, *)` of the positions of the student's logits; `ignore_index` where there is none.
    """

    student: Tensor
    teachers: dict[str, Tensor]
    labels: Tensor


class Run(ABC):
    """A training run.

    Attributes:
        student: the model that learns, with whatever it learns along.
        terms: the entries of `distills`; their `weight` may be changed before the first step.
        guides: teachers by name, as the run holds them; none in the training of a control.
        data: the training data, never changed.
        collate: makes a batch of a list of samples.
        draws: which of its samples are drawn; None where the loop draws as it did, see `Policy.draws`.
        batch_size: of the whole run, over all processes.
        steps: of the whole run.
        step: number of the current one.
        resumed: whether it goes on after an interruption: the student has moved on from its start.
        seed: of the run.
        ignore_index: label that does not count.
    """

    student: nn.Module
    terms: Sequence[Any]
    guides: Mapping[str, Teacher]
    data: Any
    collate: Callable[[list[Any]], Any]
    draws: Draws | None
    batch_size: int
    steps: int
    step: int = 0
    resumed: bool = False
    seed: int
    ignore_index: int
    task_weight: float

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """The networks of the teachers, by name."""
        return {name: each.model for name, each in self.guides.items()}

    def batch(self, indices: Sequence[int]) -> Any:
        """Samples of the training data as a batch, as the loop hands it to the student."""
        return self.collate([self.data[index] for index in indices])

    @abstractmethod
    def seen(self, batch: Any, teachers: Iterable[str] = (), through: bool = False) -> Seen:
        """Run the student, with its gradient, and some teachers on a batch.

        Args:
            batch: as the loop hands it to the student.
            teachers: their names.
            through: whether what the teachers say has a gradient, to what a policy has put into them.

        Raises:
            ValueError: a model has no class logits of positions, such as a detector of proposals.
        """

    @abstractmethod
    def told(self, teacher: str, batch: Any, through: bool = False) -> tuple[Tensor, Tensor]:
        """The class logits `(N, C, *)` of a teacher, and the labels `(N, *)` of their positions; `through` as above."""

    @abstractmethod
    def features(self, teacher: str, batch: Any) -> tuple[Tensor, Tensor]:
        """The last features `(N, D, *)` of a teacher, and the labels `(N, *)` of their positions."""

    @abstractmethod
    def departure(self, batch: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The images of a batch as the student gets them, and a function: how far it departs from its teachers on any.

        That is the sum of the entries for the images that it is given, which student and teachers see in the place of
        the batch's own; the gradient is that through the student.

        Raises:
            TypeError: the batch has no images `(N, C, H, W)`, or an entry cannot be asked about other ones.
        """

    @abstractmethod
    def change_images(self, change: Callable[[Tensor], Tensor]) -> Any:
        """Have student and teachers see what a function makes of the images, in the steps of the training alone.

        Returns a handle, whose `remove()` ends that.
        """

    @abstractmethod
    def undisturbed(self) -> Any:
        """A context manager that leaves the random numbers of the training as they were."""

    def sampler(self) -> Draws:
        """The sampler, of policies that declare `draws`."""
        assert self.draws is not None
        return self.draws

    def generator(self, *more: int) -> torch.Generator:
        """A generator that depends on the seed of the run and on numbers, and on nothing that was drawn before."""
        number = self.seed + 1
        for each in more:
            number = (number * 1_000_003 + each + 1) % 2**62
        return torch.Generator().manual_seed(number)

    def domains(self, policy: str) -> tuple[list[Any], Tensor]:
        """Names of the domains of the training data, and the number of each sample's.

        Raises:
            ValueError: the data have no domains, or a single one.
        """
        found = domains_of(self.data)
        if found is None or len(found[0]) < 2:
            raise ValueError(
                f"policy {policy!r} needs domains in the training data, and they have "
                f"{'none' if found is None else 'one'}: join a data set for each, ConcatDataset([...]), or give the "
                "data set an attribute domains, with the name of each sample's"
            )
        return found

    def teacher(self, policy: str, name: str | None = None) -> str:
        """The name of a teacher, the only one if none is given.

        Raises:
            ValueError: there is none of that name, or there are several and none is named.
        """
        known = ", ".join(map(repr, self.teachers)) or "none"
        if name is not None and name not in self.teachers:
            raise ValueError(f"policy {policy!r}: there is no teacher {name!r}, but {known}")
        if name is None and len(self.teachers) != 1:
            raise ValueError(f"policy {policy!r} needs one teacher; there is {known}: name it, teacher='...'")
        return next(iter(self.teachers)) if name is None else name

    def check_frozen(self, policy: str, names: Iterable[str]) -> None:
        """Raise `ValueError` if one of these teachers learns beside the student."""
        learning = [name for name in names if isinstance(self.guides[name], Peer)]
        if learning:
            raise ValueError(f"policy {policy!r} is for frozen teachers, and {learning[0]!r} is in online=[...]")

    @contextmanager
    def aside(self, gradients: bool = False) -> Iterator[None]:
        """Look without a trace: evaluation mode, no gradients if none are asked for, and no random number used up."""
        with self.undisturbed(), at_rest(self.student), torch.set_grad_enabled(gradients):
            yield

    def look(self, indices: Sequence[int], teachers: Iterable[str] = ()) -> Iterator[tuple[list[int], Seen]]:
        """Look at some samples, batch by batch, see `aside`."""
        size, indices = max(1, self.batch_size), list(indices)
        for some in (indices[start : start + size] for start in range(0, len(indices), size)):
            with self.aside():
                found = self.seen(self.batch(some), teachers)
            yield some, found

    def scale(self, policy: str, term: Any, factor: float) -> None:
        """Multiply the weight of an entry before the training.

        Raises:
            ValueError: its weight is measured, which would undo that.
        """
        if term.auto is not None:
            raise ValueError(
                f"policy {policy!r} changes the weight of entry {term.name!r}, which is measured ('auto'): give a "
                "number"
            )
        term.weight *= factor

    def weight(self, term: Any, labels: Tensor) -> Tensor | None:
        """What positions count in an entry by the class of their label; None where all count alike."""
        return None if term.by_class is None else weights_of(labels, term.by_class, self.ignore_index)

    def met(self, student: Tensor, teachers: dict[str, Tensor], labels: Tensor) -> Seen:
        """What models said of a batch and its labels, of maps at the size of the student's logits.

        Raises:
            ValueError: a teacher has other classes than the student.
        """
        for name, told in teachers.items():
            if told.shape[1] != student.shape[1]:
                raise ValueError(
                    f"the student has {student.shape[1]} classes, teacher {name!r} {told.shape[1]}: a policy that "
                    "compares what they say needs the same"
                )
        if student.ndim == 4:
            teachers = {
                name: resized("a policy", f"teacher {name!r}", each, student) for name, each in teachers.items()
            }
        return Seen(student, teachers, labels_at(labels, student.shape[2:]))

    def surprise(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy `(N, *)` of logits at the labels, and which positions have one."""
        safe, known = labelled(labels, None, self.ignore_index, logits.shape[1])
        return F.cross_entropy(logits.float(), safe, reduction="none"), known


@contextmanager
def alone(student: nn.Module) -> Iterator[nn.Module]:
    """The student without what a distiller learns along: connectors and online teachers."""
    beside = student._modules.pop("distill", None)
    try:
        yield student
    finally:
        if beside is not None:
            student._modules["distill"] = beside


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of what the processes of a run have."""
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


class Policy:
    """What changes the data, the weights or the student of a run.

    A subclass is registered by `densekd.policies.registry.policy`. None of its methods need do anything.

    Attributes:
        name: that it is registered under, if it is.
        draws: whether it decides which samples are drawn: it sets `run.draws`, and there is one such policy a run.
        taught: whether it needs a teacher; the control goes without it.
    """

    name: ClassVar[str] = "of one's own"
    draws: ClassVar[bool] = False
    taught: bool = False

    def start(self, run: Run) -> None:
        """Before the first step, with the weights that the student starts from; what is wrong is said here."""

    def step(self, run: Run, batch: Any) -> None:
        """Before each step; `batch` is the one that the student sees in it."""

    def leave(self, run: Run) -> None:
        """After the last step: what was put into models is taken out of them.

        `densekd.fit` calls it after an error as well, be it in `start`: what it reads is there from the beginning.
        """

    def finish(self, student: nn.Module) -> None:
        """Turn the trained student into what is used, in place, after the last step."""

    def saved(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a checkpoint on the way holds of the student's state: that of the student as `finish` would leave it."""
        return state

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside `start`: numbers and tensors."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, after `start`."""
