"""Sentences about objects (3D detection)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.sensors.geometry import Extent
from densekd.taps.bev import bev_extent, bev_taps


@method()
def omniscene(
    student: nn.Module, teacher: nn.Module, student_range: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Match the head's input map at each object with a sentence embedding: loss `omniscene`, weight 0.1.

    Ramped up over the first tenth of the training. The teacher is a `densekd.Sentences`. Weight and ramp are our own.

    Args:
        student: any detector of mmdet3d with a map of the ground.
        teacher: a `densekd.Sentences`.
        student_range: what the student's map shows, (x0, y0, x1, y1) in metres; read off the model if not given.

    Raises:
        ValueError: the student has no map of the ground, or the teacher is not a `densekd.Sentences`.

    Paper: after "OmniScene: Attention-Augmented Multimodal 4D Scene Understanding for Autonomous Driving", 2025.
    """
    if not hasattr(teacher, "said"):
        raise ValueError(f"method 'omniscene' needs a densekd.Sentences as its teacher, got {type(teacher).__name__}")
    extent = bev_extent(student) if student_range is None else Extent.of(student_range)
    loss = {"type": "omniscene", "student_range": extent[:4], "student_axes": extent.axes}
    ramped = {"type": "ramp", "loss": loss, "over": (0.0, 0.1)}
    return [{"loss": ramped, "student": bev_taps(student)["high"], "teacher": "said", "weight": 0.1, "name": "texts"}]
