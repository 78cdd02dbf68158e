"""Rules for weights, samples and networks that recipes call: plain functions and modules, one rule per file."""

from graphkd.rules.align_gradients import align_gradients
from graphkd.rules.dho import FoldedHeads, mix_heads
from graphkd.rules.diswot import diswot
from graphkd.rules.domain_weights import domain_weights
from graphkd.rules.feature_mask import FeatureMask
from graphkd.rules.fusion_ratio import FusionRatio
from graphkd.rules.level_weights import LevelWeights
from graphkd.rules.m2m import Spliced, stitch
from graphkd.rules.mcmi import class_means, conditional_information, mcmi
from graphkd.rules.mix_statistics import mix_statistics
from graphkd.rules.mixup import mixed, mixup
from graphkd.rules.quantise import EvenPoints, LearntPoints, bake, quantise
from graphkd.rules.rad import rad
from graphkd.rules.selfdistill_weight import selfdistill_weight
from graphkd.rules.similar import source_weights, task_similarity
from graphkd.rules.start_near import start_near
from graphkd.rules.stratified import stratified
from graphkd.rules.votes import Votes
from graphkd.rules.weight_align import weight_align

__all__ = [
    "EvenPoints",
    "FeatureMask",
    "FoldedHeads",
    "FusionRatio",
    "LearntPoints",
    "LevelWeights",
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
