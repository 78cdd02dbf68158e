"""Rules for weights, samples and networks that graph recipes alone call, one rule per file; see `kdlosses.rules`."""

from __future__ import annotations

from typing import Any

from kdlosses.discover import definitions
from kdlosses.moved import moved_modules, moved_name, moved_parts

_FOUND = definitions(__name__, __path__)
globals().update(_FOUND)
__all__ = sorted(_FOUND)

_MOVED = {
    name: f"kdlosses.rules.{name}"
    for name in (
        *("EvenPoints", "FusionRatio", "LearntPoints", "Spliced", "Votes", "bake", "beta", "class_means"),
        *("conditional_information", "diswot", "domain_weights", "from_unit", "mcmi", "mix_statistics", "mixed"),
        *("mixup", "quantise", "rad", "selfdistill_weight", "source_weights", "start_near", "stitch", "stratified"),
        *("task_similarity", "to_unit", "weight_align"),
    )
}  # what pixels need as well
_MODULES = ("fusion_ratio", "m2m", "similar", "votes")
moved_modules({f"{__name__}.{name}": f"kdlosses.rules.{name}" for name in _MODULES})
_PARTS = (
    *("diswot", "domain_weights", "mcmi", "mix_statistics", "mixup", "quantise", "rad", "selfdistill_weight"),
    *("start_near", "stratified", "weight_align"),
)  # modules that have the name of what they define
for _module in _PARTS:
    moved_parts(f"{__name__}.{_module}", _MOVED)
_MOVED["mix_heads"] = "kdlosses.outputs.mix_heads"


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
