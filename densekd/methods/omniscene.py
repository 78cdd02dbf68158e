"""Sentences about objects, and the attention of a teacher over views (3D detection)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.sensors.geometry import Extent
from densekd.taps.bev import bev_extent, bev_taps

RAMP = (0.0, 0.1)


@method()
def omniscene(
    student: nn.Module, teacher: nn.Module, student_range: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Match the head's input map at each object with a sentence embedding: loss `omniscene`, weight 0.1.

    Where the student weighs what is seen against what may be said, as a `BEVDetector` with `semantics` does at each
    level of its backbone, what it says there is matched with the sentence, too, weight 0.1 over the number of levels.
    Ramped up over the first tenth of the training. The teacher is a `densekd.Sentences`. Weights and ramp are our own.

    Args:
        student: any detector of mmdet3d with a map of the ground.
        teacher: a `densekd.Sentences`.
        student_range: what the student's map shows, (x0, y0, x1, y1) in metres; read off the model if not given.

    Raises:
        ValueError: the student has no map of the ground, or the teacher is not a `densekd.Sentences`.

    Paper: after "OmniScene: Attention-Augmented Multimodal 4D Scene Understanding for Autonomous Driving", 2025.
    """
    return _texts("omniscene", student, teacher, student_range)


@method()
def omniscene_views(
    student: nn.Module,
    texts: nn.Module,
    views: nn.Module,
    attention: float = 0.1,
    student_range: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """As `omniscene`, and match the shares that views and times have in each cell with those of a larger detector.

    Student and detector fuse the same views, of sensors, cameras and times, by attention: a `BEVDetector` with
    `attention=True`. Loss `kl` on the logits of the shares. The teachers have these names:
    `teacher=dict(texts=..., views=...)`.

    Args:
        student: the detector that learns.
        texts: a `densekd.Sentences`.
        views: the larger detector.
        attention: weight of the shares; our own.
        student_range: see `omniscene`.

    Raises:
        ValueError: as `omniscene`, or one of the detectors has no attention over views, or they fuse
            other sensors or times.

    Paper: see `omniscene`.
    """
    for side, model in (("student", student), ("teacher 'views'", views)):
        if not getattr(model, "attention", False):
            raise ValueError(
                f"method 'omniscene_views' compares attention over views: the {side}, {type(model).__name__}, has "
                "none; use a densekd.BEVDetector with attention=True, or the method 'omniscene'"
            )
    if _views(student) != _views(views):
        raise ValueError(
            f"method 'omniscene_views' compares shares of the same views: the student fuses {_views(student)}, the "
            f"teacher 'views' {_views(views)}"
        )
    said = [{**entry, "source": "texts"} for entry in _texts("omniscene_views", student, texts, student_range)]
    taps = dict.fromkeys(("student", "teacher"), "fusion_layer.logits")
    shares = {"loss": "kl", **taps, "source": "views", "weight": attention, "name": "views"}
    return [*said, {**shares, "adapt": "resize"}]  # no learned map may stand between unlike numbers of views


def _views(model: Any) -> str:
    """What a `BEVDetector` fuses, for comparison and messages."""
    ages = getattr(model, "ages", ())
    lidar = ["LiDAR" + (f" at the ages {ages}" if ages else "")] if hasattr(model, "pts_middle_encoder") else []
    return " and ".join(lidar + (["cameras"] if hasattr(model, "view_transform") else []))


def _texts(
    name: str, student: nn.Module, teacher: nn.Module, student_range: Sequence[float] | None
) -> list[dict[str, Any]]:
    if not hasattr(teacher, "said"):
        raise ValueError(f"method {name!r} needs a densekd.Sentences as its teacher, got {type(teacher).__name__}")
    extent = bev_extent(student) if student_range is None else Extent.of(student_range)
    loss = {"type": "omniscene", "student_range": extent[:4], "student_axes": extent.axes}
    own = {"type": "ramp", "loss": loss, "over": RAMP}
    spoken = {"type": "ramp", "loss": {**loss, "project": False}, "over": RAMP}
    levels = range(len(getattr(student, "semantics", ())))
    return [
        {"loss": own, "student": bev_taps(student)["high"], "teacher": "said", "weight": 0.1, "name": "texts"},
        *(
            {
                "loss": spoken,
                "student": f"semantics.{level}.query",
                "teacher": "said",
                "weight": 0.1 / len(levels),
                "name": f"texts_{level}",
            }
            for level in levels
        ),
    ]
