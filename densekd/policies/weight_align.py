"""The last layer's weights of new classes, scaled to those of the old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from densekd.taps.defaults import tap
from kdlosses.rules.weight_align import weight_align
from kdlosses.taps import Tap, find


@policy("weight_align")
class WeightAlign(Policy):
    """Scale the weights of new classes to the norm of the old ones after the training.

    See `kdlosses.rules.weight_align`. A model that learns new classes after old ones favours them. The scores of
    validations during the training are without it; checkpoints and the result are with it.

    Args:
        old: number of old classes, the first ones; a background that was there before is one of them.
        layer: path of the last layer; the default tap of the class logits if not given.

    Raises:
        ValueError: no class is old, or all are; or the layer has no row of weights for each class.

    Paper: Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020.
    """

    def __init__(self, old: int, layer: str | None = None) -> None:
        if old < 1:
            raise ValueError(f"policy 'weight_align': old is a number of classes from 1, got {old}")
        self.old, self.path = old, layer

    def start(self, run: Run) -> None:
        self.path = Tap.parse(tap(run.student, "logits")).path if self.path is None else self.path
        self.layer: Any = find(run.student, self.path)
        weight: Any = getattr(self.layer, "weight", None)
        rows = len(weight) if isinstance(weight, Tensor) else 0
        if not self.old < rows:
            raise ValueError(
                f"policy 'weight_align': {self.path!r} has {rows} rows of weights, of which 1 to {rows - 1} can be of "
                f"old classes, got {self.old}"
            )

    def saved(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        key, layer = f"{self.path}.weight", nn.Module()
        layer.weight = nn.Parameter(state[key].clone())
        weight_align(layer, self.old)
        return {**state, key: layer.weight.detach()}

    def finish(self, student: nn.Module) -> None:
        assert self.path is not None
        weight_align(find(student, self.path), self.old)

    def state(self) -> dict[str, Any]:
        return {"weight": self.layer.weight.detach().cpu().clone()}  # as it is in training

    def load(self, state: Mapping[str, Any]) -> None:
        self.layer.weight.data.copy_(state["weight"])
