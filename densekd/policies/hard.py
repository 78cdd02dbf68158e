"""Hard augmentation: images on which the student departs from its teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, mean_over_processes


@policy("hard")
class Hard(Policy):
    r"""Show student and teachers images that a small network has changed so that they disagree.

    $$ \max_\phi D(g_\phi(x)), \qquad D(x) = \sum_k w_k L_k(x), \qquad g_\phi(x) = x + b \tanh A_\phi(x) $$

    with D the distillation losses of the entries, and A the three convolutions of a `Change`, the identity at first.
    The two take turns: $\phi$ climbs D until it is more than u times its value on the clean images; then it rests until
    the student has brought it below l times, and climbs again. The student steps all the time, on a batch of which a
    share, drawn anew, is $g_\phi(x)$ and the rest x, so that its batch norms know both.

    The teachers, frozen and live, are asked about the same images that the student sees; as in all losses here, what
    they say is a constant, so that $\phi$ climbs through the student. What is where stays, and so do the labels: the
    task's loss is of these images. It is the recipe `hard` of graphkd on pixels, whose mask scales features, and whose
    labels are of clean ones alone.

    Args:
        bound: b, how far a value of an image is moved at most, in the units that the student gets, after its
            normalisation; 0 leaves images as they are, the method without augmentation.
        up: u, at least l.
        low: l.
        lr: learning rate of A, by Adam.
        share: of the images of a batch that are changed, one at least.
        steps: of A before one of the student, at most; each costs a forward and a backward pass of all models.
        every: steps from one look at D to the next; a look costs two forward passes of all models.
        hidden: width of A.

    Raises:
        TypeError: there are no images that student and teachers see, or an entry reads what there is in the student's
            own step alone: the proposals of a detector, or the labels that it assigns.
        ValueError: an option is out of range.

    Paper: Nix, Burg, Sinz, "HARD: Hard Augmentations for Robust Distillation", 2023. Its networks are larger and move
    what is where as well; its rule of turns was not at hand. Network, rule and share are ours.
    """

    taught = True

    def __init__(
        self,
        bound: float = 0.5,
        up: float = 2.0,
        low: float = 1.0,
        lr: float = 0.01,
        share: float = 0.5,
        steps: int = 2,
        every: int = 1,
        hidden: int = 16,
    ) -> None:
        if not 0 < low <= up:
            raise ValueError(f"policy 'hard': 0 < low <= up must hold, got low={low} and up={up}")
        if not 0 <= bound < math.inf or not lr > 0 or not 0 < share <= 1 or min(steps, every, hidden) < 1:
            raise ValueError(
                "policy 'hard': bound is finite and not negative, lr positive, share a part of the images up to 1, and "
                f"steps, every and hidden count from 1; got {bound}, {lr}, {share}, {steps}, {every} and {hidden}"
            )
        self.bound, self.up, self.low, self.lr, self.share = bound, up, low, lr, share
        self.steps, self.every, self.hidden = steps, every, hidden
        self.climbing, self.handle = True, None

    def start(self, run: Run) -> None:
        with run.undisturbed():
            images, _ = run.departure(run.batch([0]))
            torch.manual_seed(run.seed)
            self.change = Change(images.shape[1], self.hidden, self.bound).to(images.device)
        self.optimiser = torch.optim.Adam(self.change.parameters(), self.lr, maximize=True)
        if self.bound:
            self.handle = run.change_images(self.changed)

    @torch.no_grad()
    def changed(self, images: Tensor) -> Tensor:
        """What is shown in the place of images."""
        count = max(1, round(self.share * len(images)))
        chosen = torch.randperm(len(images), generator=self.draw)[:count].to(images.device)
        return images.index_copy(0, chosen, self.change(images[chosen].float()).to(images.dtype))

    def step(self, run: Run, batch: Any) -> None:
        self.draw = run.generator(run.step)
        if not self.bound or run.step % self.every:
            return
        with run.aside(gradients=True):
            images, departs = run.departure(batch)
            with torch.no_grad():
                clean = mean_over_processes(departs(images))
            if not clean:  # no entry is on
                return
            far, near = (clean + (times - 1) * clean.abs() for times in (self.up, self.low))  # for losses below 0, too
            left = self.steps if self.climbing else 0
            while True:
                with torch.set_grad_enabled(left > 0):
                    here = departs(self.change(images))
                value = mean_over_processes(here.detach())
                if not left or value > far:
                    break
                self._climb(here)
                left -= 1
        self.climbing = not value > far if self.climbing else bool(value < near)

    def leave(self, run: Run) -> None:
        if self.handle is not None:
            self.handle.remove()

    def _climb(self, departure: Tensor) -> None:
        weights = list(self.change.parameters())
        for each, slope in zip(weights, torch.autograd.grad(departure, weights)):
            each.grad = mean_over_processes(slope)
        self.optimiser.step()

    def state(self) -> dict[str, Any]:
        """The network, its optimiser, and whose turn it is."""
        return {
            "change": self.change.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "climbing": self.climbing,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.change.load_state_dict(state["change"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.climbing = state["climbing"]


class Change(nn.Module):
    r"""A learned change of images, at no value more than a bound: $g(x) = x + b \tanh A(x)$.

    A has three convolutions of 3x3, the last of which starts at 0, where g is the identity.

    Args:
        channels: of the images.
        hidden: width of A.
        bound: b.

    >>> import torch
    >>> torch.equal(Change(3, 4, 0.5)(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))
    True
    """

    def __init__(self, channels: int, hidden: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        last = nn.Conv2d(hidden, channels, 3, padding=1)
        for each in last.parameters():
            nn.init.zeros_(each)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            last,
        )

    def forward(self, images: Tensor) -> Tensor:
        return images + self.bound * self.layers(images).tanh()
