"""Policies: when and how much, around any loss. A policy is a loss itself, so it stands wherever a loss may stand."""

from kdlosses.policy.align_gradients import align_gradients
from kdlosses.policy.anneal import Anneal
from kdlosses.policy.dho import FoldedHeads, mix_heads
from kdlosses.policy.diswot import diswot
from kdlosses.policy.m2m import Spliced, stitch
from kdlosses.policy.mcmi import class_means, conditional_information, mcmi
from kdlosses.policy.milestones import Milestones
from kdlosses.policy.quantise import EvenPoints, LearntPoints, bake, quantise
from kdlosses.policy.ramp import Ramp
from kdlosses.policy.selfdistill_weight import selfdistill_weight
from kdlosses.policy.stages import Stages
from kdlosses.policy.start_near import start_near
from kdlosses.policy.until import Until
from kdlosses.policy.warmup import Warmup
from kdlosses.policy.weight_align import weight_align

__all__ = [
    "Anneal",
    "EvenPoints",
    "FoldedHeads",
    "LearntPoints",
    "Milestones",
    "Ramp",
    "Spliced",
    "Stages",
    "Until",
    "Warmup",
    "align_gradients",
    "bake",
    "class_means",
    "conditional_information",
    "diswot",
    "mcmi",
    "mix_heads",
    "quantise",
    "selfdistill_weight",
    "start_near",
    "stitch",
    "weight_align",
]
