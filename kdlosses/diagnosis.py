"""What is wrong with a distillation while it runs, told once each, with the remedy."""

from __future__ import annotations

import statistics
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from torch import Tensor

EVERY, WINDOW = 25, 5
"""A step in so many is looked at; this many of them decide."""
STRONG, WEAK, OPPOSED, SATURATED = 10.0, 0.01, -0.2, 0.999


class Diagnosis:
    """Looks at a step now and then, and tells what is wrong.

    Of each entry, over `WINDOW` of the steps that are looked at:

    - its gradient is more than `STRONG` or less than `WEAK` times the task's (medians);
    - it pulls against the task: the cosine of both gradients is below `OPPOSED` (median);
    - the teacher's softmax at its temperature is one-hot: the largest probability is above `SATURATED` in the mean;
    - a tap yields zeros alone;
    - a weight that is to be measured stays 0;
    - the teacher agrees with the labels less than the student does.

    Gradients are those at the tap, or of the student's parameters, see `kdlosses.auto_weight.Task`. Nothing that is
    trained changes.

    Args:
        tell: takes a message; a warning if not given.
        every: a step in this many is looked at; `EVERY` if not given.

    >>> heard = []
    >>> diagnosis = Diagnosis(heard.append)
    >>> for _ in range(WINDOW):
    ...     diagnosis.gradients("kl", ratio=100.0, cosine=0.5, weight=5.0)
    >>> heard  # doctest: +ELLIPSIS
    ["distills entry 'kl': its gradient is 100 times the task's, ..."]
    """

    def __init__(self, tell: Callable[[str], None] | None = None, every: int | None = None) -> None:
        self.tell = tell or _warn
        self.every, self.steps = EVERY if every is None else every, 0
        self._seen: dict[tuple[str, str], deque[float]] = defaultdict(_window)
        self._told: set[tuple[str, str]] = set()

    def due(self) -> bool:
        """Count a step of the training, and say whether this one is looked at."""
        self.steps += 1
        return self.steps % self.every == 0

    def gradients(self, name: str, ratio: float, cosine: float, weight: float, measured: bool = False) -> None:
        """Take the gradients of one step.

        Args:
            name: of the entry.
            ratio: norm of its gradient, with its weight, over that of the task's.
            cosine: of the angle between both.
            weight: its weight, for the message.
            measured: whether the weight is measured already.
        """
        self._judge(name, "ratio", ratio, lambda found: found > STRONG, self._strong(weight, measured))
        self._judge(name, "weak", ratio, lambda found: found < WEAK, self._weak(weight, measured))
        self._judge(
            name,
            "cosine",
            cosine,
            lambda found: found < OPPOSED,
            lambda found: (
                f"it pulls against the task: the cosine of both gradients is {found:.2f}. Check that teacher and "
                "student see the same images and classes (class_map, normalisation), or lower its weight"
            ),
        )

    def weighed(self, name: str, weight: float) -> None:
        """Take a weight that is being measured."""
        self._judge(
            name,
            "weighed",
            weight,
            lambda found: found == 0,
            lambda _: (
                "its weight 'auto' cannot be measured and is 0: it shares nothing with the task that has a gradient on "
                "both sides. Give a number, or tap what the task depends on"
            ),
        )

    @staticmethod
    def _strong(weight: float, measured: bool) -> Callable[[float], str]:
        return lambda found: (
            f"its gradient is {found:.0f} times the task's, so that the labels hardly count. Lower its weight from "
            f"{weight:g} to about {weight / found:.2g}, or {_other_way(measured)}"
        )

    @staticmethod
    def _weak(weight: float, measured: bool) -> Callable[[float], str]:
        return lambda found: (
            f"its gradient is {found:.1e} times the task's, so that it hardly counts. "
            + (
                f"Raise its weight from {weight:g} to about {weight / found:.2g}, or {_other_way(measured)}"
                if found
                else "No weight mends that: check that its taps are trained, that where= chooses any position, and "
                "that its loss is not constant"
            )
        )

    def softmax(self, name: str, logits: Tensor, tau: float) -> None:
        """Take a teacher's logits `(N, K, *)` and the temperature of the loss."""
        top = (logits.detach().float() / tau).softmax(1).amax(1).mean().item()
        self._judge(
            name,
            "softmax",
            top,
            lambda found: found > SATURATED,
            lambda found: (
                f"the teacher's softmax at tau={tau:g} is one-hot, its largest probability is {found:.5f} in the mean, "
                "so that it says no more than a label. Raise tau"
            ),
        )

    def zeros(self, name: str, side: str, tap: str, levels: Sequence[Tensor]) -> None:
        """Take what a tap yields."""
        some = any(bool(level.detach().any()) for level in levels)
        self._judge(
            name,
            f"zeros {side}",
            float(some),
            lambda found: found == 0,
            lambda _: f"tap {tap!r} of the {side} yields zeros alone: tap another module, or check the weights",
        )

    def agreement(self, name: str, student: float, teacher: float) -> None:
        """Take the shares of positions at which student and teacher agree with the labels."""
        self._judge(
            name,
            "agreement",
            teacher - student,
            lambda found: found < 0,
            lambda found: (
                f"the teacher agrees with the labels less than the student does, by {-100 * found:.1f} points. Check "
                "its weights, its normalisation and class_map, or end the entry earlier (policy 'until')"
            ),
        )

    def _judge(
        self, name: str, what: str, value: float, wrong: Callable[[float], bool], message: Callable[[float], str]
    ) -> None:
        seen = self._seen[name, what]
        seen.append(value)
        if len(seen) < WINDOW or (name, what) in self._told:
            return
        found = statistics.median(seen)
        if wrong(found):
            self._told.add((name, what))
            self.tell(f"distills entry {name!r}: {message(found)}")


def _other_way(measured: bool) -> str:
    return "change the ratio and steps of its weight 'auto'" if measured else "write weight='auto'"


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _window() -> deque[float]:
    return deque(maxlen=WINDOW)
