"""What the student was before, as its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from densekd.teacher import Past


@policy("snapshots")
class Snapshots(Policy):
    """Take snapshots of the student, which the teachers that are `'past'` are from then on.

    `teacher=dict(one='past', two='past')` has two of them. With `every`, each becomes the student as it is at one of
    the steps E, 2 E, ... in turn, the oldest first: with the loss `average` over all of them, the student's last
    snapshots vote. With `at`, all become the student as it is at that point of the training: with the loss `partition`
    over a trained teacher and, last, the snapshot, the student learns from the teacher what that knows better, and
    keeps what it knew. Entries with such a teacher are off before the first snapshot.

    Args:
        every: E.
        at: share of the training; one of the two.

    Raises:
        ValueError: neither or both are given, or out of range; or no teacher is 'past'.

    Paper: Zhu et al., "Improving Differentiable Architecture Search via Self-Distillation", 2023, for votes; Roth et
    al., "Fantastic Gains and Where to Find Them: On the Existence and Prospect of General Knowledge Transfer between
    Any Pretrained Model", ICLR 2024, for the partition, where the student is one that was trained before.
    """

    taught = True

    def __init__(self, every: int | None = None, at: float | None = None) -> None:
        if (every is None) == (at is None):
            raise ValueError(
                "policy 'snapshots': give either every=, a number of steps, or at=, a share of the training"
            )
        if (every is not None and every < 1) or (at is not None and not 0 <= at < 1):
            raise ValueError(f"policy 'snapshots': every counts from 1, at lies in [0, 1); got {every} and {at}")
        self.every, self.at, self.taken = every, at, 0

    def start(self, run: Run) -> None:
        self.past = {name: each for name, each in run.guides.items() if isinstance(each, Past)}
        if not self.past:
            raise ValueError("policy 'snapshots' needs teachers that are 'past': teacher=dict(before='past', ...)")
        alone = run.terms if len(run.guides) == 1 else ()  # they name no source
        self.entries = [term for term in run.terms if not {*self.past}.isdisjoint(term.sources) or term in alone]
        self.weights = [term.weight for term in self.entries]
        self._weigh()

    def step(self, run: Run, batch: Any) -> None:
        due = run.step > 0 and run.step % self.every == 0 if self.every else run.step / run.steps >= (self.at or 0)
        if not due or (self.at is not None and self.taken):
            return
        names = list(self.past)
        for name in names[self.taken % len(names) :][:1] if self.taken and self.every else names:
            self.past[name].take(run.student)
        self.taken += 1
        self._weigh()

    def _weigh(self) -> None:
        for term, weight in zip(self.entries, self.weights):
            term.weight = weight if self.taken else 0.0

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load(self, state: Mapping[str, Any]) -> None:
        self.taken = state["taken"]
        self._weigh()
