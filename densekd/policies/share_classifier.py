"""A student with its teacher's classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from densekd.taps.defaults import tap
from kdlosses.outputs import output_at
from kdlosses.taps import Tap, find


@policy("share_classifier")
class ShareClassifier(Policy):
    """Put the teacher's last layer into a student that has a place for it, and freeze it there.

    The place is the output `shared`, see `kdlosses.outputs.SharedClassifier`: a learned map to the width of the
    teacher's features comes before. The control has a classifier of its own, which learns.

    Args:
        teacher: which one, where there are several.

    Raises:
        ValueError: the student has no such place, or the teacher's last layer is neither linear nor a 1x1 convolution,
            or has other classes or another width than the place.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images" (KD3), ICCV
    2023.
    """

    taught = True

    def __init__(self, teacher: str | None = None) -> None:
        self.asked = teacher

    def start(self, run: Run) -> None:
        who = "policy 'share_classifier'"
        output: Any = output_at(run.student, Tap.parse(tap(run.student, "logits")).path, "shared", who)
        teacher = run.teachers[run.teacher("share_classifier", self.asked)]
        path = Tap.parse(tap(teacher, "logits")).path
        last: Any = find(teacher, path)
        if not isinstance(getattr(last, "weight", None), Tensor):
            raise ValueError(f"{who}: {path!r} of the teacher, a {type(last).__name__}, has no weights to be shared")
        output.share(last.weight, last.bias)
