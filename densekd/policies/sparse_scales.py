"""Scales of batch norms that go to 0 where the task lets them, for channels to be removed afterwards."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, alone
from kdlosses.rules.prune_channels import group_of


@policy("sparse_scales")
class SparseScales(Policy):
    r"""Dynamic sparse training: pull the scales of batch norms towards 0, most in the middle of the training.

    Before each step t of T every scale moves towards 0, and stays there where it would pass it:

    $$ \gamma \leftarrow \mathrm{sign}(\gamma) \max(|\gamma| - s_t, 0), \qquad
       s_t = \frac{\rho}{T} \Big(1 - \cos \frac{2 \pi t}{T}\Big) (1 - z_g) $$

    with $z_g$ the share of the scales of its group that are below `near` already, see `kdlosses.rules.group_of`: the
    pull begins and ends gently, and rests where a group is sparse. A scale that starts at 1 and that the task leaves
    alone ends at $1 - \rho$, whatever the length of the training and the optimiser. Frozen scales stay. The sparse
    network is that of the last step: a validation that selects an earlier one selects one that is less sparse.
    `kdlosses.rules.prune_channels` and `densekd prune` remove the channels afterwards.

    Args:
        rate: $\rho$, how far all steps move a scale in sum.
        near: below which a scale counts as gone.

    Raises:
        ValueError: an option is not positive, or the student has no batch norm whose scales are learned.

    Paper: Chu et al., "Group channel pruning and spatial attention distilling for object detection", Applied
    Intelligence 2022: s sign($\gamma$) is added to the gradient, with an s that changes with the training. How it
    changes is in no published code: the schedule is ours, and so is that the step is beside the optimiser, where Adam
    would divide it by the size of the gradients.
    """

    def __init__(self, rate: float = 1.0, near: float = 0.01) -> None:
        for name, value in (("rate", rate), ("near", near)):
            if not 0 < value < math.inf:
                raise ValueError(f"policy 'sparse_scales': {name} is a positive number, got {value}")
        self.rate, self.near = rate, near
        self.groups: dict[str, list[Tensor]] = {}

    def start(self, run: Run) -> None:
        self.groups = {}
        with alone(run.student) as student:
            for path, module in student.named_modules():
                if isinstance(module, _BatchNorm) and module.affine and module.weight.requires_grad:
                    self.groups.setdefault(group_of(path), []).append(module.weight)
        if not self.groups:
            raise ValueError(
                f"policy 'sparse_scales': {type(run.student).__name__} has no batch norm whose scales are learned: "
                "norm_cfg=dict(type='BN', requires_grad=True)"
            )

    @torch.no_grad()
    def step(self, run: Run, batch: object) -> None:
        pull = self.rate / run.steps * (1 - math.cos(2 * math.pi * run.step / run.steps))
        for scales in self.groups.values():
            gone = sum(int((each.abs() < self.near).sum()) for each in scales)
            own = pull * (1 - gone / sum(each.numel() for each in scales))
            for each in scales:
                each.copy_(each.sign() * (each.abs() - own).clamp_min(0))
