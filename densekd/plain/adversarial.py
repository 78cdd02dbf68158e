"""Distillation from a natural teacher and a robust one, for any segmenter and a training loop of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from densekd.plain.distillation import check_student
from densekd.plain.scores import logits_of
from densekd.teacher import Teacher
from kdlosses.attack import Mode, attacked


class AdversarialDistillation(nn.Module):
    r"""MTARD: the natural teacher speaks of the images, the robust one of the attacked images.

    $$ L = \mathrm{mtard}\big([z^s(x), z^s(x')], [z^{t_1}(x), z^{t_2}(x')]\big), \quad
       x' = \arg\max_{\|x' - x\|_\infty \le r} \ell\big(z^s(x'), z^{t_2}(x)\big) $$

    with the policy `mtard`, which balances the two terms, and x' by projected gradient ascent. It is the graph recipe
    `mtard` on pixels. Teachers are frozen, in evaluation mode, and no part of the module.

    Args:
        student: the model that learns, from images to logits, see `densekd.plain.scores.logits_of`.
        natural: the teacher of clean images.
        robust: the teacher of attacked ones; the natural one if not given.
        loss: $\ell$, inside of the policy, and what the attack raises.
        radius: r, in units of the images as the student is given them.
        step: of the ascent, each value by its sign.
        steps: of the ascent; each costs a forward and a backward pass of the student.
        noise: standard deviation of the start.
        rate: of the weights, see `kdlosses.policy.MTARD`.
        attack: mode of the student while it is attacked.
        ask: whether the robust teacher is asked about x'; if not, what it says of x is the target.
        seed: of the noise.

    `forward`:
        images: `(N, C, H, W)`.
        weight: of each position of the logits, `(N, h, w)`; what is to be ignored has 0.

    Returns the student's output for the images, as it is, and `{'mtard': loss}`.

    Raises:
        ValueError: an option is out of range, or the student has nothing to train.

    Paper: Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Multi-Teacher Adversarial Distillation", 2024.

    >>> def net():
    ...     return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    >>> distillation = AdversarialDistillation(net(), net(), net(), steps=2)
    >>> output, losses = distillation(torch.rand(2, 3, 8, 8))
    >>> output.shape, list(losses)
    (torch.Size([2, 5, 8, 8]), ['mtard'])
    """

    def __init__(
        self,
        student: nn.Module,
        natural: nn.Module,
        robust: nn.Module | None = None,
        *,
        loss: Any = "kl",
        radius: float = 8 / 255,
        step: float = 2 / 255,
        steps: int = 10,
        noise: float = 0.001,
        rate: float = 0.025,
        attack: Mode = "eval",
        ask: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_student(student)
        if attack not in ("eval", "train") or min(radius, step, noise) < 0 or steps < 0:
            raise ValueError(
                "mtard: attack is 'eval' or 'train', radius, step, steps and noise are not negative; got "
                f"{attack!r}, {radius}, {step}, {steps} and {noise}"
            )
        self.student = student
        self.teachers = {
            "natural": Teacher("natural", natural),
            "robust": Teacher("robust", natural if robust is None else robust),
        }
        self.policy = kdlosses.build(dict(type="mtard", teachers=2, loss=loss, rate=rate))
        self.inner = kdlosses.build(loss)
        self.ascent = dict(radius=radius, step=step, steps=steps, noise=noise)
        self.attack, self.ask = attack, ask
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor, weight: Tensor | None = None) -> tuple[Any, dict[str, Tensor]]:
        told, target = (self._told(name, images) for name in self.teachers)
        moved = self.attacked(images, target, weight)
        if self.ask:
            target = self._told("robust", moved)
        output = self.student(images)
        student = torch.cat([logits_of(output), logits_of(self.student(moved))], dim=1)
        return output, {"mtard": self.policy(student, torch.cat([told, target], dim=1), weight=weight)}

    def attacked(self, images: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The images, moved to where the student departs most from logits `target`."""

        def departs(moved: Tensor) -> Tensor:
            return self.inner(logits_of(self.student(moved)), target, weight=weight)

        return attacked(self.student, images, departs, self.attack, generator=self.generator, **self.ascent)

    @torch.no_grad()
    def _told(self, name: str, images: Tensor) -> Tensor:
        return logits_of(self.teachers[name].model(images))

    def train(self, mode: bool = True) -> AdversarialDistillation:
        """Set the student's mode; teachers stay in evaluation mode."""
        super().train(mode)
        for teacher in self.teachers.values():
            teacher.model.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> AdversarialDistillation:
        for teacher in {id(each.model): each for each in self.teachers.values()}.values():
            teacher.model._apply(fn, recurse)
        return super()._apply(fn, recurse)
