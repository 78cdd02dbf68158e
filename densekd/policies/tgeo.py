"""The ratio of labels and teacher at each position, learned on held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, Seen, alone, mean_over_processes
from kdlosses.policy.tgeo import TGeo as Fused
from kdlosses.reduce import weighted_mean


@policy("tgeo")
class TGeo(Policy):
    r"""Learn the ratio of the loss `tgeo` of `kdlosses` by looking ahead: does a step by it help on held-out images?

    $$ \phi \leftarrow \mathrm{AdamW}\Big(- \nabla_\phi \big( v \cdot \nabla_\theta L(\theta, \phi) \big)\Big),
       \qquad v = \nabla_\theta L_H(\theta), $$

    with $\theta$ the student, $\phi$ the network of the ratio, and $L_H$ the cross-entropy on held-out images H: the
    gradient of $L_H(\theta - \eta \nabla_\theta L(\theta, \phi))$ for a small $\eta$, whose size AdamW takes out. The
    product is a difference of the loss at $\theta \pm \epsilon v$, so that nothing is differentiated twice. H is a part
    of the training images, which the student never learns from; validation images are not touched.

    Use it with an entry `dict(loss='tgeo', student=<logits>)` and `task_weight=0`: the entry holds the loss of the
    labels.

    Args:
        held: share of the training images to hold out.
        every: steps from one step of the ratio to the next; one costs about two steps of the student.
        lr: learning rate of AdamW.
        weight_decay: likewise.

    Raises:
        ValueError: an option is out of range, there is no such entry or more than one, the task's own loss has a
            weight, or `held` leaves no image to hold out.

    Paper: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation", ICLR 2024.
    How it solves the bilevel problem was not read: the form is ours, and so are the settings of the ratio network.
    """

    draws = True
    taught = True
    ahead = 0.01
    """How far the weights are moved along the gradient, as a length in all."""

    def __init__(self, held: float = 0.2, every: int = 10, lr: float = 0.01, weight_decay: float = 0.5) -> None:
        if not 0 < held < 1 or every < 1 or not lr > 0 or weight_decay < 0:
            raise ValueError(
                "policy 'tgeo': held is a share between 0 and 1, every counts from 1, lr is positive and weight_decay "
                f"not negative; got {held}, {every}, {lr} and {weight_decay}"
            )
        self.share, self.every, self.lr, self.weight_decay = held, every, lr, weight_decay

    def start(self, run: Run) -> None:
        found = [(term, part) for term in run.terms for part in term.loss.modules() if isinstance(part, Fused)]
        if len(found) != 1 or len(found[0][0].sources) != 1:
            raise ValueError(
                f"policy 'tgeo' learns the ratio of one entry with one teacher, dict(loss='tgeo', student=<logits>); "
                f"there are {len(found)}"
            )
        if run.task_weight:
            raise ValueError("policy 'tgeo': its entry holds the loss of the labels, give task_weight=0 beside it")
        self.term, self.fused = found[0]
        self.teacher = run.teacher("tgeo", self.term.sources[0])
        count = len(run.data)
        order = torch.randperm(count, generator=run.generator())
        self.held = order[: round(self.share * count)]
        if not 0 < len(self.held) < count:
            raise ValueError(
                f"policy 'tgeo': held={self.share} of {count} images leaves none to hold out, or to learn from"
            )
        run.sampler().set(torch.ones(count).index_fill(0, self.held, 0.0), at=0)
        self.optimiser = torch.optim.AdamW(self.fused.ratio.parameters(), self.lr, weight_decay=self.weight_decay)

    def step(self, run: Run, batch: Any) -> None:
        if run.step % self.every:
            return
        drawn = torch.randperm(len(self.held), generator=run.generator(run.step))[: run.batch_size]
        with run.aside(gradients=True):
            self._learn(run, batch, run.batch(self.held[drawn].tolist()))

    def _learn(self, run: Run, batch: Any, held: Any) -> None:
        with alone(run.student):
            weights = [each for each in run.student.parameters() if each.requires_grad]
        out = run.seen(held)
        slopes = torch.autograd.grad(self._surprise(run, out), weights, materialize_grads=True, allow_unused=True)
        length = torch.stack([slope.norm() for slope in slopes]).norm()
        if not length > 0:
            return
        with torch.no_grad():
            here = run.seen(batch, [self.teacher])
            kept = [each.clone() for each in weights]
            moved = []
            for sign in (1, -1):
                for each, at, slope in zip(weights, kept, slopes):
                    each.copy_(at + sign * self.ahead / length * slope)
                moved.append(run.seen(batch).student)
            for each, at in zip(weights, kept):
                each.copy_(at)
        told = here.teachers[self.teacher]
        self.fused.ratio.requires_grad_(True)
        weight = run.weight(self.term, here.labels)
        ratio = self.fused.ratio_of(here.student, told, here.labels, weight)
        up, down = (self.fused.fused(each, told, here.labels, ratio, weight) for each in moved)
        ((down - up) * length / (2 * self.ahead)).backward()
        self.fused.ratio.requires_grad_(False)
        for each in self.fused.ratio.parameters():
            each.grad = None if each.grad is None else mean_over_processes(each.grad)
        self.optimiser.step()
        self.optimiser.zero_grad()  # the student's optimiser may hold these parameters as well

    def _surprise(self, run: Run, seen: Seen) -> Tensor:
        surprise, known = run.surprise(seen.student, seen.labels)
        weight = run.weight(self.term, seen.labels)
        return weighted_mean(surprise, known if weight is None else known * weight)

    def state(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
