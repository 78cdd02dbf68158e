"""Students with weights of a few bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract.entry import RecipeContract
from torch import nn

from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher

CONTRACT = [
    RecipeContract("diff_quant", options=dict(bits=32)),
    RecipeContract("quant_distill", options=dict(bits=32)),
    RecipeContract("rounded", options=dict(bits=32)),
]


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=40, hidden=48))


def studied(setting: Setting, taught: Outcome, name: str, epochs: int = 100, **options: Any) -> Outcome:
    student = StudentClassifier(hidden=(64,), dropout=0.3, epochs=epochs)
    return train_student(setting, taught.cache, dict(type=name, **options), student)


@pytest.mark.parametrize("name", ["quant_distill", "diff_quant"])
def test_two_bits_taught_are_better_than_two_bits_rounded(setting: Setting, taught: Outcome, name: str) -> None:
    outcome = studied(setting, taught, name, bits=2)
    rounded = studied(setting, taught, "rounded", bits=2, method=dict(type="glnn", lam=0.3))
    assert outcome.metrics["tran"] > rounded.metrics["tran"] + 0.01
    for each in (outcome, rounded):
        weight = each.model.network_.layers[0].weight.detach().flatten()
        assert all(len(bucket.unique()) <= 4 for bucket in weight.split(256))
        assert len(weight.unique()) > 4
    assert [type(layer) for layer in outcome.model.network_.layers] == [nn.Linear, nn.Linear]


def test_more_bits_come_nearer_to_full_precision(setting: Setting, taught: Outcome) -> None:
    x = setting.whole.x
    whole = studied(setting, taught, "glnn", 40, lam=0.3).model.predict_proba(x)
    gaps = [
        np.abs(
            studied(setting, taught, "rounded", 40, bits=bits, method=dict(type="glnn", lam=0.3)).model.predict_proba(x)
            - whole
        ).mean()
        for bits in (2, 4, 8)
    ]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


@pytest.mark.parametrize("name", ["quant_distill", "diff_quant", "rounded"])
def test_bits_that_cannot_be_are_named_before_training(setting: Setting, taught: Outcome, name: str) -> None:
    with pytest.raises(ValueError, match=r"bits must be at least 1, got 0"):
        studied(setting, taught, name, 10**9, bits=0)  # it would never end
