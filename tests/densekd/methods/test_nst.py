"""`nst`: what a segmenter on digit scenes learns of a wider teacher's patterns."""

from __future__ import annotations

from ..conftest import CONFIGS
from .teaching import gap, scenes_of_pixels


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    taught, control = (
        gap(CONFIGS / "seg.py", CONFIGS / "seg_teacher.py", "nst", scenes_of_pixels, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control
