"""Neuron selectivity of the feature before the logits (segmentation) or of the neck (detection)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def nst(student: nn.Module, teacher: nn.Module, weight: float = 50.0) -> list[dict[str, Any]]:
    """Match the distribution of the channels' activation patterns, whatever their numbers of channels.

    Args:
        student: a model with default features.
        teacher: another one.
        weight: of the sum over levels. 50 is that of RepDistiller, for classifiers of CIFAR-100; the paper has no
            recipe for dense prediction.

    Paper: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017.
    """
    return [{"loss": "nst", "student": tap(student, "features"), "teacher": tap(teacher, "features"), "weight": weight}]
