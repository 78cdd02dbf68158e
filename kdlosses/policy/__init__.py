"""Policies schedule or reweight any loss. A policy is itself a loss and can be used wherever a loss can."""

from __future__ import annotations

from typing import Any

from kdlosses.discover import discover
from kdlosses.moved import moved_modules, moved_name
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)

_RULES = [
    "align_gradients",
    "dho",
    "diswot",
    "domain_weights",
    "feature_mask",
    "fusion_ratio",
    "m2m",
    "mcmi",
    "mix_statistics",
    "mixup",
    "quantise",
    "rad",
    "selfdistill_weight",
    "similar",
    "start_near",
    "stratified",
    "votes",
    "weight_align",
]  # what graph recipes alone use; the modules are in graphkd.rules now
_NAMES = [
    "EvenPoints",
    "FeatureMask",
    "FoldedHeads",
    "FusionRatio",
    "LearntPoints",
    "Spliced",
    "Votes",
    "align_gradients",
    "bake",
    "class_means",
    "conditional_information",
    "diswot",
    "domain_weights",
    "mcmi",
    "mix_heads",
    "mix_statistics",
    "mixed",
    "mixup",
    "quantise",
    "rad",
    "selfdistill_weight",
    "source_weights",
    "start_near",
    "stitch",
    "stratified",
    "task_similarity",
    "weight_align",
]

moved_modules({f"{__name__}.{rule}": f"graphkd.rules.{rule}" for rule in _RULES if rule not in _NAMES})
moved_modules({f"{__name__}.ensemble": "kdlosses.experts", f"{__name__}.schedule": "kdlosses.schedule"})
_MOVED = {name: f"graphkd.rules.{name}" for name in _NAMES}
_MOVED |= {name: f"kdlosses.experts.{name}" for name in ("experts", "mixture")}
_MOVED["confidence"] = "kdlosses.policy.confident.confidence"


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
