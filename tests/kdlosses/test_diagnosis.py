"""A planted case for each warning, and none for what is healthy."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch

from kdlosses.diagnosis import EVERY, WINDOW, Diagnosis

Look = Callable[[Diagnosis], None]
SHARP, SOFT = 50 * torch.eye(4)[None, :, :, None], torch.eye(4)[None, :, :, None]

CASES: dict[str, tuple[str, Look, Look]] = {
    "strong": (
        "about 0.2, or write weight='auto'",
        lambda d: d.gradients("kl", 25.0, 0.1, weight=5.0),
        lambda d: d.gradients("kl", 2.5, 0.1, weight=5.0),
    ),
    "strong, measured": (
        "about 0.2, or change the ratio and steps of its weight 'auto'",
        lambda d: d.gradients("kl", 25.0, 0.1, weight=5.0, measured=True),
        lambda d: d.gradients("kl", 2.5, 0.1, weight=5.0, measured=True),
    ),
    "weak": (
        "Raise its weight from 5 to about 5e.03",
        lambda d: d.gradients("kl", 1e-3, 0.1, weight=5.0),
        lambda d: d.gradients("kl", 0.1, 0.1, weight=5.0),
    ),
    "no gradient": (
        "hardly counts. No weight mends that",
        lambda d: d.gradients("kl", 0.0, 0.0, weight=1.0),
        lambda d: d.gradients("kl", 1.0, 0.0, weight=1.0),
    ),
    "opposed": (
        "the cosine of both gradients is -0.50",
        lambda d: d.gradients("kl", 1.0, -0.5, weight=5.0),
        lambda d: d.gradients("kl", 1.0, -0.1, weight=5.0),
    ),
    "one-hot": ("Raise tau", lambda d: d.softmax("kl", SHARP, 1.0), lambda d: d.softmax("kl", SHARP, 50.0)),
    "soft": ("Raise tau", lambda d: d.softmax("kl", SHARP, 4.0), lambda d: d.softmax("kl", SOFT, 1.0)),
    "zeros": (
        "tap 'neck' of the teacher yields zeros alone",
        lambda d: d.zeros("kl", "teacher", "neck", [torch.zeros(2), torch.zeros(3)]),
        lambda d: d.zeros("kl", "teacher", "neck", [torch.zeros(2), torch.eye(3)]),
    ),
    "unmeasured": (
        "cannot be measured and is 0",
        lambda d: d.weighed("kl", 0.0),
        lambda d: d.weighed("kl", 1e-9),
    ),
    "agreement": (
        "less than the student does, by 10.0 points",
        lambda d: d.agreement("kl", student=0.7, teacher=0.6),
        lambda d: d.agreement("kl", student=0.7, teacher=0.8),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_once_and_what_is_healthy_is_not(name: str) -> None:
    words, wrong, healthy = CASES[name]
    heard: list[str] = []
    diagnosis = Diagnosis(heard.append)
    for _ in range(WINDOW - 1):
        wrong(diagnosis)
    assert not heard  # one batch proves nothing
    for _ in range(2 * WINDOW):
        wrong(diagnosis)
    assert len(heard) == 1
    assert heard[0].startswith("distills entry 'kl': ")
    assert words in heard[0].replace("5e+03", "5e.03")
    heard.clear()
    fresh = Diagnosis(heard.append)
    for _ in range(2 * WINDOW):
        healthy(fresh)
    assert not heard


def test_what_was_seen_is_pickled_with_a_model() -> None:
    diagnosis = Diagnosis()
    for _ in range(WINDOW - 1):
        diagnosis.weighed("kl", 0.0)
    with pytest.warns(UserWarning, match="cannot be measured"):
        pickle.loads(pickle.dumps(diagnosis)).weighed("kl", 0.0)


def test_a_step_in_so_many_is_looked_at() -> None:
    diagnosis = Diagnosis(str)
    assert [diagnosis.due() for _ in range(2 * EVERY)].count(True) == 2
