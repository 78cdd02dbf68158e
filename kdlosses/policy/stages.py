from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdlosses.reduce import nothing
from kdlosses.registry import Loss, build, register


def check_ends(who: str, option: str, stages: Sequence[Any], what: str) -> tuple[float, ...]:
    """The points of change of stages, pairs of a point and what the stage has.

    Raises:
        ValueError: they are no pairs, or their points do not rise from above 0 to 1.

    >>> check_ends("stages", "losses", [(0.5, "mse"), (1.0, "kl")], "loss")
    (0.5, 1.0)
    """
    if any(not isinstance(stage, list | tuple) or len(stage) != 2 for stage in stages):
        raise ValueError(f"{who}: {option} must be pairs (until, {what}), got {stages!r}")
    ends = tuple(end for end, _ in stages)
    if not ends or list(ends) != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1:
        raise ValueError(f"{who}: the points of change must rise from above 0 to 1, got {ends}")
    return ends


@register(match="inner")
class Stages(nn.Module):
    r"""Several losses in sequence, each for its own stretch of the training.

    $$ L = \ell_k(s, t), \quad k = \min \{ k : \mathrm{progress} < u_k \} $$

    A student goes from the general to the specific: first what the teacher sees, then what it says, and so on. A stage
    without a loss is off: it is 0 and the teacher is not run, see `Loss.active`. So several entries of `distills`,
    each with its own teacher and layers and all with the same points of change, take turns.

    Args:
        losses: pairs of a point of the training up to which the stage lasts, and what `kdlosses.build` takes or None.

    `forward`:
        student: as the losses want it.
        teacher: likewise.
        progress: share of the training that is done, 0 to 1; the last stage includes 1.
        context: what the losses name; what one of them needs is needed all the time.

    Raises:
        ValueError: the points do not rise to 1, there is no loss at all, or the losses differ in what must agree
            between student and teacher.

    Paper: Su et al., "ERNIE-Tiny: A Progressive Distillation Framework for Pretrained Transformer Compression", 2021:
    hidden states of a pretrained teacher, those of a fine-tuned one, the same on the data of the task, and last the
    soft labels and the true ones, too. Neither the lengths of its stages nor its loss on hidden states are known to us;
    the losses given here are our own. Factor 1.

    >>> import torch
    >>> loss, s, t = Stages([(0.5, "mse"), (0.8, None), (1.0, "cosine")]), torch.eye(2), torch.eye(2).flip(0)
    >>> [loss(s, t, progress=p).item() for p in (0.0, 0.49, 0.5, 0.8, 1.0)]
    [1.0, 1.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, losses: Sequence[tuple[float, Any]] = ((0.5, "mse"), (1.0, "kl"))) -> None:
        super().__init__()
        self.ends = check_ends("stages", "losses", losses, "loss")
        self.losses = nn.ModuleList(nn.Identity() if loss is None else build(loss) for _, loss in losses)
        told = [loss for loss in self.losses if isinstance(loss, Loss)]
        if not told:
            raise ValueError("stages: all stages are None; pass at least one loss")
        for loss in told:
            if loss.match != told[0].match:
                raise ValueError(
                    f"stages: {told[0].name!r} wants student and teacher to agree in {told[0].match}, {loss.name!r} "
                    f"in {loss.match}; give them entries of their own, with None where the other one is on"
                )

    def forward(self, student: Tensor, teacher: Tensor, progress: float, **context: Any) -> Tensor:
        loss = self.stage(progress)
        if not isinstance(loss, Loss):
            return nothing(student)
        return loss(student, teacher, progress=progress, **context)

    def stage(self, progress: float) -> nn.Module:
        """The `Loss` of this point of the training; something else where the stage has none."""
        for end, loss in zip(self.ends, self.losses):
            if progress < end:
                return loss
        return self.losses[-1]

    def active(self, progress: float, **context: Any) -> bool:
        """Whether this stage has a loss and it is active."""
        loss = self.stage(progress)
        return isinstance(loss, Loss) and loss.active(progress=progress, **context)
