"""Weights that are measured, for entries on a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graphkd
import kdlosses
from graphkd import StudentClassifier

SCALE = 4096.0  # a power of two, so that nothing is rounded


def scaled(student: Tensor, teacher: Tensor) -> Tensor:
    return SCALE * kdlosses.kl(student, teacher)


def scores(loss: Any, **entry: Any) -> Tensor:
    method = {"type": "terms", "distills": [{"loss": loss, **entry}], "lam": 0.5}
    student = StudentClassifier(hidden=8, epochs=3, dropout=0.0)
    found = graphkd.distill(graphkd.digits(), {"type": "sage", "hidden": 8, "epochs": 3}, method, student=student)
    return torch.from_numpy(found.student.predict_proba(graphkd.digits().x))


def test_the_unit_of_a_loss_does_not_matter() -> None:
    """A loss in other units gets another weight, and teaches the same student."""
    one = scores("kl", weight="auto")
    torch.testing.assert_close(scores(scaled, weight="auto"), one, rtol=1e-4, atol=1e-5)
    assert (scores(scaled) - one).abs().max() > 1e-3
    assert (scores("kl", weight=0) - one).abs().max() > 1e-3  # it has a weight


def test_labels_are_needed() -> None:
    method = {"type": "terms", "distills": [{"loss": "kl", "weight": "auto"}]}
    with pytest.raises(ValueError, match=r"weight 'auto' is measured beside the labels.*give lam=0.5"):
        graphkd.distill(graphkd.digits(), "sage", method)
    with pytest.raises(TypeError, match="'kl': weight 'auto' has no option 'share'"):
        scores("kl", weight={"type": "auto", "share": 1})
