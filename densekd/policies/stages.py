"""Stages of a training, each on data of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from kdlosses.policy.stages import check_ends


@policy("stages")
class Stages(Policy):
    """Draw from the general data first, from those of the task last.

    With entries of `distills` whose loss is the policy `stages` of `kdlosses` and that have the same points of change,
    a stage has data, teacher and loss of its own. The label loss is the student's, in all stages; data without labels
    have none.

    Args:
        parts: pairs of a point of the training up to which the stage lasts, and the domain to draw from, or a list of
            them; see `densekd.policies.draws.domains_of` for their names.

    Raises:
        ValueError: the points do not rise to 1, there is no such domain, or the data have none.

    Paper: Su et al., "ERNIE-Tiny: A Progressive Distillation Framework for Pretrained Transformer Compression", 2021:
    general data and a general teacher, the same data and the teacher of the task, the data of the task, and at last its
    labels, too. Lengths of the stages are not known to us.
    """

    draws = True

    def __init__(self, parts: Sequence[tuple[float, Any]]) -> None:
        self.ends = check_ends("policy 'stages'", "parts", parts, "domain")
        self.names = [list(of) if isinstance(of, list | tuple) else [of] for _, of in parts]

    def start(self, run: Run) -> None:
        known, domain = run.domains("stages")
        for begin, names in zip([0.0, *self.ends], self.names):
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"policy 'stages': there is no domain {name!r} in the training data; there is "
                        f"{', '.join(map(repr, known))}"
                    )
            drawn = torch.isin(domain, torch.tensor([known.index(name) for name in names]))
            run.sampler().set(drawn, at=first_step(begin, run.steps) * run.batch_size)


def first_step(progress: float, steps: int) -> int:
    """The first step whose share of the training that is done is at least `progress`.

    >>> first_step(0.3, 10), first_step(0.34, 10), first_step(0.0, 10)
    (3, 4, 0)
    """
    step = math.floor(progress * steps)
    return step if step / steps >= progress else step + 1
