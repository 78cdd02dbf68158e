"""Policies: when and how much, around any loss. A policy is a loss itself, so it stands wherever a loss may stand."""

from kdlosses.policy.adversary import Adversary
from kdlosses.policy.align_gradients import align_gradients
from kdlosses.policy.anneal import Anneal
from kdlosses.policy.average import Average
from kdlosses.policy.balance import Balance
from kdlosses.policy.confident import Confident, confidence
from kdlosses.policy.dho import FoldedHeads, mix_heads
from kdlosses.policy.diswot import diswot
from kdlosses.policy.domain_weights import domain_weights
from kdlosses.policy.ensemble import experts, mixture
from kdlosses.policy.feature_mask import FeatureMask
from kdlosses.policy.fusion_ratio import FusionRatio
from kdlosses.policy.knfu import KnFu
from kdlosses.policy.m2m import Spliced, stitch
from kdlosses.policy.mcmi import class_means, conditional_information, mcmi
from kdlosses.policy.milestones import Milestones
from kdlosses.policy.mix_statistics import mix_statistics
from kdlosses.policy.mixup import mixed, mixup
from kdlosses.policy.mst_distill import MSTDistill
from kdlosses.policy.mtard import MTARD
from kdlosses.policy.mulki import MulKI
from kdlosses.policy.partition import Partition
from kdlosses.policy.quantise import EvenPoints, LearntPoints, bake, quantise
from kdlosses.policy.rad import rad
from kdlosses.policy.ramp import Ramp
from kdlosses.policy.selfdistill_weight import selfdistill_weight
from kdlosses.policy.similar import source_weights, task_similarity
from kdlosses.policy.stages import Stages
from kdlosses.policy.start_near import start_near
from kdlosses.policy.stratified import stratified
from kdlosses.policy.until import Until
from kdlosses.policy.votes import Votes
from kdlosses.policy.warmup import Warmup
from kdlosses.policy.weight_align import weight_align

__all__ = [
    "MTARD",
    "Adversary",
    "Anneal",
    "Average",
    "Balance",
    "Confident",
    "EvenPoints",
    "FeatureMask",
    "FoldedHeads",
    "FusionRatio",
    "KnFu",
    "LearntPoints",
    "MSTDistill",
    "Milestones",
    "MulKI",
    "Partition",
    "Ramp",
    "Spliced",
    "Stages",
    "Until",
    "Votes",
    "Warmup",
    "align_gradients",
    "bake",
    "class_means",
    "conditional_information",
    "confidence",
    "diswot",
    "domain_weights",
    "experts",
    "mcmi",
    "mix_heads",
    "mix_statistics",
    "mixed",
    "mixture",
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
