"""Policies schedule or reweight any loss. A policy is itself a loss and can be used wherever a loss can."""

from __future__ import annotations

from typing import Any

from kdlosses.discover import discover
from kdlosses.moved import moved_modules, moved_name
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)

_RULES = {
    "graphkd": {
        **dict(align_gradients=["align_gradients"]),
        **dict(feature_mask=["FeatureMask"]),
    },
    "kdlosses": {
        **dict(diswot=["diswot"], domain_weights=["domain_weights"], fusion_ratio=["FusionRatio"]),
        **dict(m2m=["Spliced", "stitch"]),
        **dict(mcmi=["class_means", "conditional_information", "mcmi"], mixup=["mixed", "mixup"]),
        **dict(mix_statistics=["mix_statistics"]),
        **dict(quantise=["EvenPoints", "LearntPoints", "bake", "quantise"], rad=["rad"]),
        **dict(selfdistill_weight=["selfdistill_weight"], similar=["source_weights", "task_similarity"]),
        **dict(start_near=["start_near"], stratified=["stratified"], votes=["Votes"], weight_align=["weight_align"]),
    },
}  # by package the modules of `rules`, which were here, and what they define
_MOVED: dict[str, str] = {}
for _package, _modules in _RULES.items():
    for _module, _names in _modules.items():
        _MOVED |= {name: f"{_package}.rules.{name}" for name in _names}
        if _module not in _names:
            moved_modules({f"{__name__}.{_module}": f"{_package}.rules.{_module}"})
moved_modules({f"{__name__}.ensemble": "kdlosses.experts", f"{__name__}.schedule": "kdlosses.schedule"})
_MOVED |= {name: f"kdlosses.experts.{name}" for name in ("experts", "mixture")}
_MOVED["mix_heads"] = "kdlosses.outputs.mix_heads"
_MOVED["confidence"] = "kdlosses.policy.confident.confidence"


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
