"""Module to module: stages of the student are taught one by one, in the place of the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import kdlosses
from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from kdlosses.reduce import weighted_mean
from kdlosses.rules.m2m import spliced, stitch
from kdlosses.taps import find

Size = tuple[int, ...]


@policy("m2m")
class M2M(Policy):
    r"""Teach each stage of the student in the place of the teacher's, before they are trained together.

    $$ L_i = a \, \mathrm{KL}(p^t \,\|\, p_i) + (1 - a) \, \mathrm{CE}(p_i), \qquad
       p_i = t_K \circ \dots \circ t_{i+1} \circ s_\mathrm{out} \circ b_i \circ s_\mathrm{in} \circ t_{i-1} \circ \dots
       \circ t_1 (x) $$

    with $b_i$ a stage of the student and $t_1, \dots, t_K$ those of the teacher, frozen; the rest of the teacher is as
    it is. Where widths differ, learned stitches s stand between: a layer norm and a linear layer at each position. Each
    stage learns by a number of steps on training images, before the first step of the run; then the stitches are
    dropped, and the run trains the student as ever. Positions count in $L_i$ as in the entries, by `class_weight`.

    These steps are more training than a control has: `share=0` is the control with as many, without the teacher's
    answers, but still in its network.

    Args:
        stages: paths of modules that student and teacher both have, each with one tensor in and out, or a dict of
            the student's paths with the teacher's; the stages of a ResNet in `backbone` if not given.
        steps: for each stage.
        share: a, 0 to 1.
        lr: learning rate of stage and stitches, by Adam.
        teacher: which one, where there are several.

    Raises:
        KeyError: a model has no such stage.
        TypeError: a stage has more than one tensor in or out.
        ValueError: an option is out of range, the stages shrink an image differently, none is known, or one is frozen.

    Paper: Lo et al., "m2mKD: Module-to-Module Knowledge Distillation for Modular Transformers", 2024: blocks of
    transformers, into modules of a larger modular network, and both in the place of a block of a small third network,
    the meta model. Here the teacher is its own meta model, so that its path is the teacher as it is. The KL of its code
    is a mean over all elements: factor 1 / C.
    """

    taught = True

    def __init__(
        self,
        stages: Sequence[str] | Mapping[str, str] | None = None,
        steps: int = 50,
        share: float = 0.5,
        lr: float = 0.003,
        teacher: str | None = None,
    ) -> None:
        given = [*stages, *stages.values()] if isinstance(stages, Mapping) else stages
        listed = isinstance(given, list | tuple) and all(isinstance(each, str) for each in given)
        if stages is not None and not listed:
            raise TypeError(
                "policy 'm2m': stages is a list of paths, or a dict of the student's with the teacher's, got "
                f"{stages!r}"
            )
        if steps < 1 or not 0 <= share <= 1 or not lr > 0:
            raise ValueError(
                "policy 'm2m': steps counts from 1, share is one of the teacher's answers, 0 to 1, and lr is positive; "
                f"got {steps}, {share} and {lr}"
            )
        self.stages, self.steps, self.share, self.lr, self.asked = stages, steps, share, lr, teacher
        self.kl = kdlosses.build("kl")

    def start(self, run: Run) -> None:
        name = run.teacher("m2m", self.asked)
        run.check_frozen("m2m", [name])
        pairs = self._pairs(run.student)
        for mine, its in pairs.items():
            find(run.student, mine), find(run.teachers[name], its)
        if run.resumed:
            return
        with run.undisturbed():
            torch.manual_seed(run.seed)
            run.student.train()
            sizes = self._measured(run, name, pairs)
            for number, (mine, its) in enumerate(pairs.items()):
                (own_in, own_out), (in_, out) = sizes["student", mine], sizes["teacher", its]
                if [a * b for a, b in zip(own_in[1:], out[1:])] != [a * b for a, b in zip(own_out[1:], in_[1:])]:
                    raise ValueError(
                        f"policy 'm2m': {mine!r} of the student makes {own_out} of {own_in}, {its!r} of the teacher "
                        f"{out} of {in_}: give stages that shrink an image alike"
                    )
                stage = find(run.student, mine)
                if not any(each.requires_grad for each in stage.parameters()):
                    raise ValueError(f"policy 'm2m': nothing in {mine!r} of the student can learn: leave it out")
                place = _InItsPlace(stage, own_in[0], own_out[0], in_[0], out[0])
                self._teach(run, name, its, place.to(next(run.student.parameters()).device), number)

    def _pairs(self, student: Any) -> dict[str, str]:
        """Paths of the student's stages with the teacher's."""
        stages = self.stages
        if stages is None:
            stages = [f"backbone.{name}" for name in getattr(getattr(student, "backbone", None), "res_layers", ())]
        if not stages:
            raise ValueError(
                f"policy 'm2m': the stages of {type(student).__name__} are not known: stages=['...'] names them"
            )
        return dict(stages) if isinstance(stages, Mapping) else {each: each for each in stages}

    @staticmethod
    def _measured(run: Run, name: str, pairs: Mapping[str, str]) -> dict[tuple[str, str], tuple[Size, Size]]:
        """Sizes of what goes into each stage and comes out, `(C, h, w)`, by whose it is and its path."""
        found: dict[tuple[str, str], tuple[Size, Size]] = {}
        handles = []

        def watch(model: nn.Module, path: str, whose: str) -> None:
            def look(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                if len(args) != 1 or not all(isinstance(each, Tensor) and each.ndim > 1 for each in (*args, output)):
                    raise TypeError(f"policy 'm2m': a stage has one tensor in and one out, {path!r} of the {whose} not")
                found[whose, path] = tuple(args[0].shape[1:]), tuple(output.shape[1:])

            handles.append(find(model, path).register_forward_hook(look))

        for mine, its in pairs.items():
            watch(run.student, mine, "student")
            watch(run.teachers[name], its, "teacher")
        try:
            with run.aside():
                run.seen(run.batch([0]), [name])
        finally:
            for handle in handles:
                handle.remove()
        for whose, path in [("student", mine) for mine in pairs] + [("teacher", its) for its in pairs.values()]:
            if (whose, path) not in found:
                raise ValueError(f"policy 'm2m': the {whose} does not run its stage {path!r}")
        return found

    def _teach(self, run: Run, name: str, stage: str, place: nn.Module, number: int) -> None:
        """Train a stage of the student where the teacher has its own."""
        count = len(run.data)
        size = min(run.batch_size, count)
        optimiser = torch.optim.Adam(place.parameters(), self.lr)
        for step in range(self.steps):
            drawn = torch.randperm(count, generator=run.generator(number, step))[:size]
            batch = run.batch(drawn.tolist())
            with run.undisturbed():  # the same random numbers of a preprocessor for both
                told, labels = run.told(name, batch)
            with torch.enable_grad(), spliced(run.teachers[name], stage, place):
                said, _ = run.told(name, batch, through=True)
            weight = next((run.weight(term, labels) for term in run.terms if term.by_class is not None), None)
            surprise, known = run.surprise(said, labels)
            hard = weighted_mean(surprise, known if weight is None else known * weight)
            optimiser.zero_grad()
            (self.share * self.kl(said, told, weight=weight) + (1 - self.share) * hard).backward()
            optimiser.step()
        if dist.is_available() and dist.is_initialized():
            for each in place.state_dict().values():
                dist.broadcast(each, 0)
        place.zero_grad()


class _InItsPlace(nn.Module):
    """A stage of the student with stitches to the teacher's widths; it keeps its mode where the teacher is at rest."""

    def __init__(self, stage: nn.Module, own_in: int, own_out: int, into: int, out: int) -> None:
        super().__init__()
        self.before = nn.Identity() if own_in == into else _Stitch(into, own_in)
        self.stage = stage
        self.modes = [module.training for module in stage.modules()]
        self.after = nn.Identity() if own_out == out else _Stitch(own_out, out)

    def forward(self, x: Tensor) -> Tensor:
        for module, mode in zip(self.stage.modules(), self.modes):
            module.training = mode
        return self.after(self.stage(self.before(x)))


class _Stitch(nn.Module):
    """A stitch on axis 1."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.stitch = stitch(width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.stitch(x.movedim(1, -1)).movedim(-1, 1)
