"""Robust active distillation: which images the teacher is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from kdlosses.rules.rad import rad


@policy("rad")
class RAD(Policy):
    r"""Draw only images that the teacher has been asked about, and choose in rounds which those are.

    In each of R rounds, E steps apart, the gain of asking about an image is the student's doubt,

    $$ g = \frac1n \sum_i \big( 1 - (q_{i(1)} - q_{i(2)}) \big) $$

    in the mean over its positions, one minus the margin of the two most probable classes; 1 / R of the budget is drawn
    without replacement from the distribution `kdlosses.rules.rad`. Images with labels, in a domain of their own, are
    drawn all the time.

    Args:
        budget: share of the images to ask about in all, of those without labels; 1 asks about all.
        wrong: share of the answers that is expected to be wrong.
        rounds: R; the first one uses the student as it starts.
        every: E.
        look: images whose gain is looked at in a round, drawn at random; all if not given.
        labelled: the domain of images with labels, see `densekd.policies.draws.domains_of`; none if not given.
        select: `random` draws uniformly: what the strategy has to beat.

    Raises:
        ValueError: an option is out of range, or there is no such domain.

    Paper: Baykal et al., "Robust Active Distillation", ICLR 2023. Margin, rounds and the share of wrong answers, which
    the paper takes from the teacher's accuracy, are ours.
    """

    draws = True
    taught = True

    def __init__(
        self,
        budget: float = 0.2,
        wrong: float = 0.05,
        rounds: int = 4,
        every: int = 100,
        look: int | None = None,
        labelled: str | int | None = None,
        select: Literal["rad", "random"] = "rad",
    ) -> None:
        if not 0 < budget <= 1 or not 0 <= wrong < 1:
            raise ValueError(f"policy 'rad': budget in (0, 1] and wrong in [0, 1) are shares, got {budget} and {wrong}")
        if rounds < 1 or every < 1 or (look is not None and look < 1):
            raise ValueError(f"policy 'rad': rounds, every and look count from 1, got {rounds}, {every} and {look}")
        self.budget, self.wrong, self.rounds, self.every = budget, wrong, rounds, every
        self.looked, self.labelled, self.select = look, labelled, select

    def start(self, run: Run) -> None:
        count = len(run.data)
        self.known = torch.zeros(count, dtype=torch.bool)
        if self.labelled is not None:
            names, domain = run.domains("rad")
            if self.labelled not in names:
                raise ValueError(
                    f"policy 'rad': there is no domain {self.labelled!r}, but {', '.join(map(repr, names))}"
                )
            self.known = domain == names.index(self.labelled)
        self.asked = torch.zeros(count, dtype=torch.bool)
        if not run.resumed:
            self._ask(run)

    def step(self, run: Run, batch: Any) -> None:
        if run.step and run.step % self.every == 0 and run.step // self.every < self.rounds:
            self._ask(run)

    def _ask(self, run: Run) -> None:
        pool = (~self.known).nonzero().flatten()
        number = run.step // self.every + 1
        wanted = max(1, round(self.budget * len(pool) * number / self.rounds)) - int(self.asked.sum())
        if len(pool) and wanted > 0:
            draw = run.generator(number)
            left = pool[~self.asked[pool]]
            some = left[torch.randperm(len(left), generator=draw)[: max(wanted, self.looked or len(left))]]
            p = rad(self._doubt(run, some), self.wrong * len(some)) if self.select == "rad" else torch.ones(len(some))
            # where the strategy names fewer images than are to be asked about, the rest comes from the others
            self.asked[some[torch.multinomial(p.double() + 1e-12, wanted, generator=draw)]] = True
        run.sampler().set(self.known | self.asked)

    @staticmethod
    def _doubt(run: Run, images: Tensor) -> Tensor:
        found = []
        for _, seen in run.look(images.tolist()):
            first, second = seen.student.float().softmax(1).topk(2, dim=1).values.unbind(1)
            found.append((1 - (first - second)).view(len(first), -1).mean(1).cpu())
        return torch.cat(found)

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load(self, state: Mapping[str, Any]) -> None:
        self.asked = state["asked"]
