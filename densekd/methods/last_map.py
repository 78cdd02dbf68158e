"""Pearson matching of the last map of the backbone, for teachers that others trained."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import default_taps


@method()
def last_map(student: nn.Module, teacher: nn.Module, weight: float = 10.0) -> list[dict[str, Any]]:
    """Match the last map of the student's backbone to the last map of the teacher, up to scale and shift of a channel.

    For a teacher without a head for the task, such as `hf:FOLDER`, see `densekd.hub.families`. A learned 1x1
    convolution leads to its channels, and the student is resized to its grid. The loss is that of PKD, which no scale
    of the teacher's numbers changes. That it stands on the backbone, and its weight, are our own choice.

    Args:
        student: a model with a backbone.
        teacher: yields maps, or has a backbone.
        weight: of the entry.

    Paper: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022, for the loss.

    Raises:
        ValueError: the student has no backbone, or the teacher neither maps nor a backbone.
    """
    its = "maps:-1" if default_taps(teacher).get("features") == "maps" else "backbone:-1"
    for model, tap in ((student, "backbone:-1"), (teacher, its)):
        if tap.startswith("backbone") and not hasattr(model, "backbone"):
            raise ValueError(f"{type(model).__name__} has no backbone: write distills entries with module paths")
    return [{"loss": "pkd", "student": "backbone:-1", "teacher": its, "weight": weight}]
