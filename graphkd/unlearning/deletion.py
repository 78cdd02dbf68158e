"""All that a way to unlearn may look at."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from graphkd.links.metrics import auc
from graphkd.training.loop import Evaluation, History, Schedule, train
from graphkd.unlearning.flops import counted
from graphkd.unlearning.layers import encoder_of, layered
from graphkd.unlearning.reach import near
from graphkd.unlearning.task import Task

_WATCHED = 1000  # retained elements that deleted ones are ranked among to choose an epoch


@dataclass
class Bill:
    """What a way to unlearn has cost.

    Attributes:
        flops: operations of training steps and of answers asked of networks, see `counted`; not of choosing the epoch.
        seconds: wall-clock time of all of it, with choosing the epoch.
    """

    flops: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Deletion:
    """A trained model, what it has learned from, and what it is to forget.

    Messages pass over the edges that are left; deleted nodes stand alone there, with their features and labels. Of the
    test part nothing is read here: it is for the figures of a report.

    Attributes:
        model: the trained one; never changed, take a copy by `start()`.
        before: the task as it was.
        after: the same without the deleted elements.
        deleted: edges `(2, n)` or node ids `(n,)`.
        schedule: by which the model was trained.
        seed: of whatever is drawn.
    """

    model: nn.Module
    before: Task
    after: Task
    deleted: Tensor
    schedule: Schedule
    seed: int = 0
    bill: Bill = field(default_factory=Bill)

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    def start(self) -> nn.Module:
        """A copy of the trained model, to be changed."""
        return copy.deepcopy(self.model).requires_grad_(True)

    def rate(self, lr: float | None, share: float = 1.0) -> float:
        """The learning rate given, or a share of that by which the model was trained."""
        return share * self.schedule.lr if lr is None else lr

    @functools.cached_property
    def generator(self) -> torch.Generator:
        """For whatever a method draws."""
        return torch.Generator().manual_seed(self.seed)

    @torch.no_grad()
    def told(self, model: nn.Module) -> Tensor:
        """Rows `(N, d)` of a model at rest for all nodes, over the edges that are left."""
        model.eval()
        with counted() as flops:
            h = self.after.run(model)
        self.bill.flops += flops()
        return h

    def told_layers(self, model: nn.Module) -> list[Tensor]:
        """What each layer of a model at rest yields `(N, d)`, see `told`."""
        return layered(encoder_of(model), lambda: self.told(model))

    def reach(self, hops: int) -> Tensor:
        """Which nodes `(N,)` are at most so many hops from a deleted element, over the edges as they were."""
        return near(self.before.ends(self.deleted), self.before.edge_index, len(self.before.x), hops)

    @property
    def forgotten(self) -> Tensor:
        """Which nodes `(N,)` are deleted, or ends of a deleted edge."""
        return self.reach(0)

    def train(
        self,
        model: nn.Module,
        loss: Callable[[Tensor | slice], Tensor],
        count: int,
        schedule: Schedule,
        answers: nn.Module | None = None,
    ) -> History:
        """Minimise a loss over `model`; the epoch is chosen by quality on the validation part and by what is forgotten.

        The two count alike: the quality, and how often a retained element is surer than a deleted one (`AUC_d`).

        Args:
            model: trained in place.
            loss: from the elements of a step, places or `slice(None)` for all.
            count: of elements in an epoch.
            schedule: see there.
            answers: what is asked to choose the epoch; `model` if not given.
        """
        asked = model if answers is None else answers
        watched = self._watched

        @torch.no_grad()
        def evaluate() -> Evaluation:
            asked.eval()
            h = self.after.run(asked)
            forgets = auc(*(self.after.confidence(asked, h, each) for each in (watched, self.deleted)))
            return ((self.after.val(asked, h) + forgets) / 2, forgets), None

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            history = train(model, loss, count, schedule=schedule, evaluate=evaluate, generator=self.generator)
        self._bill(model, loss, count, schedule, history)
        return history

    def fit(self, model: nn.Module, task: Task) -> History:
        """Train a model in place as the trained one was, on `after` or on another task."""
        history = task.fit(model, self.schedule, self.seed)
        loss = functools.partial(task.supervised, model, generator=self.generator)
        self._bill(model, loss, task.elements.shape[-1], self.schedule, history)
        return history

    def _bill(
        self,
        model: nn.Module,
        loss: Callable[[Tensor | slice], Tensor],
        count: int,
        schedule: Schedule,
        history: History,
    ) -> None:
        """Count one step more, of which no gradient is left, and charge it as often as there were steps."""
        size = min(count, schedule.batch_size or count)
        with counted() as flops:
            loss(torch.arange(size)).backward()
        model.zero_grad()
        self.bill.flops += flops() * -(-count // size) * history.epochs

    @functools.cached_property
    def _watched(self) -> Tensor:
        count = self.after.elements.shape[-1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        return self.after.elements[..., order[: max(_WATCHED, self.deleted.shape[-1])]]
