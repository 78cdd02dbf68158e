"""An MLP whose last layer holds more than class logits."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphkd.networks.mlp import MLP
from kdlosses.outputs import with_output


class WithOutput(MLP):
    """An `MLP` that a recipe may give another output layer, see `kdlosses.outputs`; loading a state gives it that one.

    It starts as the MLP of its arguments.
    """

    def give(self, output: str | dict[str, Any]) -> nn.Module:
        """Replace the last layer, and return the new one."""
        with_output(self, f"layers.{len(self.layers) - 1}", output)
        return self.layers[-1]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        last = f"{prefix}layers.{len(self.layers) - 1}."
        if isinstance(self.layers[-1], nn.Linear):
            if f"{last}second.weight" in state_dict:
                self.give("two_heads")
            elif f"{last}classifier.weight" in state_dict:
                self.give(dict(type="shared", wide=len(state_dict[f"{last}layer.weight"])))
            elif f"{last}layer.weight" in state_dict:
                self.give(dict(type="subclasses", count=len(state_dict[f"{last}layer.weight"]) // self.widths[-1]))
        super()._load_from_state_dict(state_dict, prefix, *args)
