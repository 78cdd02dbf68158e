"""Students with low-bit weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, alone
from densekd.teacher import MovingAverage
from kdlosses.rules.quantise import bake, quantise


@policy("quantised")
class Quantised(Policy):
    r"""Train a student whose linear layers and convolutions compute with b bits a weight; it is left with those.

    Forward and backward pass see the quantised weights $q(\theta)$ and the optimiser moves $\theta$ beneath them; with
    `learnt` the student, trained before, is frozen and the points of quantisation learn, see
    `kdlosses.rules.EvenPoints` and `kdlosses.rules.LearntPoints`. Validation, checkpoints and the result are of the
    quantised student, under the plain names. The control is quantised, too. Biases, statistics and connectors keep
    their precision.

    Args:
        bits: b; 32 is no quantisation.
        learnt: whether the points learn, 16 bits at most.
        bucket: weights that share a scale.
        ends: quantise the first and the last layer too.

    Raises:
        ValueError: an option is out of range, there is no layer to quantise, or a teacher is made of the student.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018: quantised distillation, and,
    with `learnt` and the student itself in full precision as teacher, differentiable quantisation.
    """

    def __init__(self, bits: int = 4, learnt: bool = False, bucket: int = 256, ends: bool = True) -> None:
        self.options: dict[str, Any] = dict(bits=bits, learnt=learnt, bucket=bucket, ends=ends)
        spare = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
        quantise(spare, **self.options)  # what is out of range is said now
        self.exact = bits >= 32

    def start(self, run: Run) -> None:
        following = [name for name, each in run.guides.items() if isinstance(each, MovingAverage)]
        if following and not self.exact:
            raise ValueError(
                f"policy 'quantised': teacher {following[0]!r} is made of the student, whose weights are quantised: "
                "give another"
            )
        self.student = run.student
        self.learned = {name for name, each in run.student.named_parameters() if each.requires_grad}
        if not self.exact:
            with alone(run.student):
                quantise(run.student, **self.options)

    def saved(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {name: value for name, value in state.items() if ".parametrizations." not in name}
        for name, layer in self.student.named_modules():
            if parametrize.is_parametrized(layer, "weight"):
                found[f"{name}.weight"] = layer.weight.detach().cpu()
        return found

    def finish(self, student: nn.Module) -> None:
        if self.exact:
            return
        with alone(student):
            bake(student)
        for name, each in student.named_parameters():
            each.requires_grad_(name in self.learned)

    def state(self) -> dict[str, Any]:
        parts = {} if self.exact else self.student.state_dict()
        return {name: value.cpu() for name, value in parts.items() if ".parametrizations." in name}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.student.load_state_dict(state, strict=False)
