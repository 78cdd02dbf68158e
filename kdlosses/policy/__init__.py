"""Policies: when and how much, around any loss. A policy is a loss itself, so it stands wherever a loss may stand."""

from kdlosses.policy.align_gradients import align_gradients
from kdlosses.policy.anneal import Anneal
from kdlosses.policy.confident import Confident, confidence
from kdlosses.policy.dho import FoldedHeads, mix_heads
from kdlosses.policy.diswot import diswot
from kdlosses.policy.domain_weights import domain_weights
from kdlosses.policy.feature_mask import FeatureMask
from kdlosses.policy.fusion_ratio import FusionRatio
from kdlosses.policy.m2m import Spliced, stitch
from kdlosses.policy.mcmi import class_means, conditional_information, mcmi
from kdlosses.policy.milestones import Milestones
from kdlosses.policy.mix_statistics import mix_statistics
from kdlosses.policy.mixup import mixed, mixup
from kdlosses.policy.quantise import EvenPoints, LearntPoints, bake, quantise
from kdlosses.policy.rad import rad
from kdlosses.policy.ramp import Ramp
from kdlosses.policy.selfdistill_weight import selfdistill_weight
from kdlosses.policy.stages import Stages
from kdlosses.policy.start_near import start_near
from kdlosses.policy.stratified import stratified
from kdlosses.policy.until import Until
from kdlosses.policy.warmup import Warmup
from kdlosses.policy.weight_align import weight_align

__all__ = [
    "Anneal",
    "Confident",
    "EvenPoints",
    "FeatureMask",
    "FoldedHeads",
    "FusionRatio",
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
    "confidence",
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
    "start_near",
    "stitch",
    "stratified",
    "weight_align",
]
