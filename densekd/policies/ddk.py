"""Domain sampling: draw more images of the domains where the student is furthest behind its teacher."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, Seen
from kdlosses.rules.domain_weights import domain_weights


@policy("ddk")
class DDK(Policy):
    r"""Draw images of domain d with a probability that follows the gap between student and teacher there.

    $$ w \leftarrow \mathrm{domain\_weights}(\ell^s, \ell^t, w) \text{ every E steps,} \qquad
       \ell_d = \frac{1}{n_d} \sum_{i \in d} H(y_i, p_i) $$

    see `kdlosses.rules.domain_weights`; within a domain all images are alike. Images are drawn with replacement.

    Args:
        every: E.
        look: images of each domain that an estimate looks at, drawn anew each time.
        gap: of the cross-entropies at the `labels`, as above; or at what the `teacher` says, $H(p^t, p^s) - H(p^t)$,
            for images without labels.
        smoothing: share of the old weights, see there.
        floor: share of w that is the same for all domains, see there.
        teacher: which one is compared, where there are several.

    Raises:
        ValueError: an option is out of range, or the data have no domains, see `densekd.policies.draws.domains_of`;
            with the gap of labels, an estimate meets none.

    Paper: Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", 2024, which also draws by
    the smoothed gap of the two models' losses on the text. The form of the weights is our own.
    """

    draws = True
    taught = True

    def __init__(
        self,
        every: int = 100,
        look: int = 16,
        gap: Literal["labels", "teacher"] = "labels",
        smoothing: float = 0.5,
        floor: float = 0.2,
        teacher: str | None = None,
    ) -> None:
        if every < 1 or look < 1:
            raise ValueError(f"policy 'ddk': every and look count from 1, got {every} and {look}")
        self.every, self.looked, self.gap = every, look, gap
        self.form: dict[str, Any] = dict(smoothing=smoothing, floor=floor)
        domain_weights(torch.zeros(2), torch.zeros(2), **self.form)  # what is out of range is said now
        self.asked = teacher
        self.weights: Tensor | None = None

    def start(self, run: Run) -> None:
        self.names, self.domain = run.domains("ddk")
        self.asked = run.teacher("ddk", self.asked)
        if not run.resumed:
            self._weigh(run)

    def step(self, run: Run, batch: Any) -> None:
        if run.step and run.step % self.every == 0:
            self._weigh(run)

    def _weigh(self, run: Run) -> None:
        student, teacher = zip(*(self._losses(run, number) for number in range(len(self.names))))
        self.weights = domain_weights(torch.stack(student), torch.stack(teacher), self.weights, **self.form)
        run.sampler().set((self.weights / torch.bincount(self.domain))[self.domain])

    def _losses(self, run: Run, number: int) -> tuple[Tensor, Tensor]:
        """Mean loss of student and teacher on images of a domain."""
        of = (self.domain == number).nonzero().flatten()
        some = of[torch.randperm(len(of), generator=run.generator(run.step, number))[: self.looked]]
        assert self.asked is not None
        each = [self._sums(run, seen, self.asked) for _, seen in run.look(some.tolist(), [self.asked])]
        student, teacher, count = torch.stack(each).sum(0)
        if not count:
            raise ValueError(
                f"policy 'ddk': no label counts in {len(some)} images of the domain {self.names[number]!r}: with "
                "gap='teacher' none is needed"
            )
        return student / count, teacher / count

    def _sums(self, run: Run, seen: Seen, teacher: str) -> Tensor:
        told = seen.teachers[teacher]
        if self.gap == "labels":
            mine, known = run.surprise(seen.student, seen.labels)
            its, _ = run.surprise(told, seen.labels)
            return torch.stack([(mine * known).sum(), (its * known).sum(), known.sum()]).cpu()
        p, log_p, log_q = told.softmax(1), told.log_softmax(1), seen.student.log_softmax(1)
        return torch.stack([-(p * log_q).sum(), -(p * log_p).sum(), p.sum()]).cpu()

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load(self, state: Any) -> None:
        self.weights = state["weights"]
