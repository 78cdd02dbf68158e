"""Data pruning: a kept share of the images, with a teacher that counts the more the fewer there are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densekd.policies.draws import domains_of
from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from kdlosses.reduce import weighted_mean
from kdlosses.rules.stratified import stratified


@policy("pruned")
class Pruned(Policy):
    r"""Train on a share of the images, by a teacher that was trained on all of them.

    $$ L = 2 (1 - \alpha) L_\mathrm{task} + 2 \alpha \sum_k w_k L_k, \qquad \alpha = 1 - \tfrac12 k, $$

    on a share k of the images: at k = 1 the plain distillation, and the fewer images are kept, the more counts what the
    teacher says of them. The number of steps stays. Without a teacher, as for the control, the task's loss is as it is.

    Args:
        keep: k, above 0 and at most 1.
        by: keep images at `random`, domain by domain if there are domains; the `hard` ones or the `easy` ones, by the
            mean cross-entropy of the teacher's prediction at the labels of an image. That asks the teacher once about
            each image, before the training, and the control goes without it.
        tie: whether the weights of task and teacher follow k as above.
        teacher: which one judges, where there are several.

    Raises:
        ValueError: `keep` is no such share; or with `hard` or `easy`, there is no teacher.

    Paper: Ben-Baruch et al., "Distilling the Knowledge in Data Pruning", 2024: cross-entropy and distillation mixed by
    $\alpha$, which shall be the larger the less is kept, up to 1; random pruning as its baseline. The line
    $\alpha(k)$ and the score are ours.
    """

    draws = True

    def __init__(
        self,
        keep: float = 0.5,
        by: Literal["random", "hard", "easy"] = "random",
        tie: bool = True,
        teacher: str | None = None,
    ) -> None:
        if not 0 < keep <= 1:
            raise ValueError(f"policy 'pruned': keep is a share of the images, above 0 and at most 1, got {keep}")
        self.keep, self.by, self.tie, self.asked = keep, by, tie, teacher
        self.taught = by != "random"

    def start(self, run: Run) -> None:
        run.sampler().set(self.kept(run).double(), at=0)
        if self.tie and run.terms:
            run.task_weight *= self.keep
            for term in run.terms:
                run.scale("pruned", term, 2 - self.keep)

    def kept(self, run: Run) -> Tensor:
        """Which of the samples are kept, `(n,)` bool."""
        count = len(run.data)
        if self.by == "random" or self.keep == 1:
            found = domains_of(run.data)
            groups = torch.zeros(count, dtype=torch.long) if found is None else found[1]
            return stratified(groups, self.keep, run.generator())
        name = run.teacher("pruned", self.asked)
        score = torch.cat(
            [self._score(run, seen.teachers[name], seen.labels) for _, seen in run.look(range(count), [name])]
        )
        order = score.argsort(descending=self.by == "hard", stable=True)
        kept = order[: max(1, round(self.keep * count))]
        return torch.zeros(count, dtype=torch.bool).index_fill(0, kept, True)

    @staticmethod
    def _score(run: Run, logits: Tensor, labels: Tensor) -> Tensor:
        surprise, known = run.surprise(logits, labels)
        return torch.stack([weighted_mean(*each) for each in zip(surprise, known)]).cpu()
