"""Policies: when and how much, around any loss. A policy is a loss itself, so it stands wherever a loss may stand."""

from kdlosses.policy.anneal import Anneal
from kdlosses.policy.milestones import Milestones
from kdlosses.policy.ramp import Ramp
from kdlosses.policy.stages import Stages
from kdlosses.policy.until import Until
from kdlosses.policy.warmup import Warmup

__all__ = ["Anneal", "Milestones", "Ramp", "Stages", "Until", "Warmup"]
