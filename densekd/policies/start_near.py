"""A student that starts near its teacher."""

from __future__ import annotations

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, alone
from kdlosses.rules.start_near import start_near


@policy("start_near")
class StartNear(Policy):
    """Move the student's weights towards those of a teacher of the same architecture before the training.

    See `kdlosses.rules.start_near`. With an untrained teacher, `checkpoint='random'` of a `densekd.Distiller`, and no
    weight of the task, `task_weight=0`, it is the experiment of the paper: what the student gains owes nothing to the
    teacher's knowledge. `densekd.plain.probe.probed` measures it.

    Args:
        near: 0 at the teacher, 1 where the student is.
        teacher: which one, where there are several.

    Raises:
        ValueError: `near` is no share, or the architectures differ.

    Paper: Sarnthein et al., "Random Teachers are Good Teachers", ICML 2023.
    """

    taught = True

    def __init__(self, near: float = 0.3, teacher: str | None = None) -> None:
        if not 0 <= near <= 1:
            raise ValueError(f"policy 'start_near': near is a share, 0 (the teacher) to 1 (the student), got {near}")
        self.near, self.asked = near, teacher

    def start(self, run: Run) -> None:
        teacher = run.teachers[run.teacher("start_near", self.asked)]
        if not run.resumed:
            with alone(run.student):
                start_near(run.student, teacher, self.near)
